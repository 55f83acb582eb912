"""A network of one's own: the manual's example down the whole line, what is read of others, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trainer_corpus
from emulator_bare import needs_compiler
from rich.progress import Progress
from typer.testing import CliRunner

from converter.convert import load, render, write_all
from converter.onnx_qdq.reader import read_onnx
from converter.reference import run_batch_all
from converter.run_folder import ArtifactError, ModelArtifact
from converter.spec import KwsSpec
from converter.verify import engines
from converter.verify.checks import EQUAL, WITHIN
from converter.verify.run import prepared
from host.costs.kernel_costs import compare
from trainer.__main__ import app
from trainer.data.augment import AugmentSettings, LabelledClips
from trainer.data.scene_studio import SceneSettings
from trainer.data.scenes import Scenes
from trainer.errors import TrainerError
from trainer.network.estimate import estimate, untrained_graph
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import fold_norms
from trainer.network.onnx_export import to_onnx
from trainer.network.quant_options import QuantOptions
from trainer.run.evaluate import evaluate_run
from trainer.run.fit import TrainSettings, fit, to_batch
from trainer.run.operating_point import quant_outputs, stream_outputs
from trainer.run.own_network import ReadNetwork, read_network
from trainer.run.quantize import quantize_run
from trainer.run.steps import Source, export_run, load_float, train_run

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
SPEC = KwsSpec.of_words(["yes", "stop"])
SMALL = TrainSettings(epochs=1, batch=32, augment=AugmentSettings(copies=1))
HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
BASE = f"""{HEAD}
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.logits = nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Linear(4, 4)
    def head(self, x): return self.logits(x.mean((2, 3)))
class Net(Base):
"""  # methods follow from line 11 on


MIXED = f"""{HEAD}
class Net(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.features = nn.Conv1d(40, 8, 3, padding=1)
        self.a = nn.Sequential(nn.Conv1d(8, 12, 9, 2, padding=4, bias=False), nn.BatchNorm1d(12), nn.ReLU6(),
                               nn.Conv1d(12, 12, 3, padding="same", groups=12))
        self.skip, self.drop = nn.Conv1d(8, 12, 1, 2), nn.Dropout1d(0.2)
        self.dense, self.out = nn.Linear(12 * 6, 16, bias=False), nn.Linear(16, num_classes)
    def forward(self, x):
        x = self.features(x.squeeze(1).transpose(1, 2))
        y = F.relu(x)
        z = self.a(y).add(self.skip(x))
        z = F.max_pool1d(F.avg_pool1d(F.relu(z), kernel_size=2), 2)
        z = self.drop(z).reshape(z.size(0), -1)
        return self.out(F.relu6(self.dense(z)))
"""


def example() -> str:
    """The network of docs/own_network.md."""
    text = (ROOT / "docs" / "own_network.md").read_text()
    lines = text[text.index("    import torch") : text.index("From there")].splitlines()
    return "".join(f"{line[4:]}\n" for line in lines)


def read(folder: Path, text: str, name: str = "Net") -> ReadNetwork:
    file = folder / "my_net.py"
    file.write_text(text)
    return read_network(f"{file}:{name}", SPEC, 0)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example trained, quantized and exported, its file gone before the second command."""
    home = tmp_path_factory.mktemp("own")
    corpus = trainer_corpus.make(home / "corpus", speakers=40)
    with inside(home), Progress(disable=True) as progress:
        own = read(home, example())
        train_run(home / "run", Source(str(corpus)), SPEC, "Net", SMALL, progress, own=own)
        (home / "my_net.py").unlink()
        quantize_run(home / "run", home / "run", "qat", QuantOptions(), 1, None, progress)
        export_run(home / "run", None, progress)
        evaluate_run(home / "run", None, progress)
    return home / "run"


def test_the_example_goes_down_the_whole_line(trained: Path) -> None:
    write_all(render(load(trained)), trained / "firmware")
    with prepared(trained, 3) as given:
        given = replace(given, noise=given.noise[:3])
        ours = engines.native(given, simd=False), engines.native(given, simd=True), engines.tflm(given)
        checks = [engines.identities(given), *ours]
        assert {check.status for check in checks} == {EQUAL}, checks
        check = engines.fake_quant(given)
        assert check.status == WITHIN and check.checked == 3, check
        moved = {**given.vectors, "logits": given.vectors["logits"] + 9}
        far = replace(given, vectors={**moved, "layer:add_q": given.vectors["layer:add_q"] ^ 4})
        assert engines.fake_quant(far).differences == 3  # the sum is judged by its own inputs
    result = json.loads((trained / "evaluation.json").read_text())
    assert {"float", "fake-quant", "int8"} <= result["engines"].keys()
    operators = {type(layer).__name__ for layer in read_onnx((trained / "model.onnx").read_bytes()).layers}
    assert {"Conv2D", "DepthwiseConv2D", "Add", "MaxPool2D", "FullyConnected"} <= operators


def test_the_estimate_before_training_holds_on_the_board(trained: Path, tmp_path: Path) -> None:
    needs_compiler()
    guess, row = read(tmp_path, example()).estimate(SPEC), compare(trained)
    before = guess.cycles, guess.flash_bytes, guess.ram_bytes
    errors = [abs(value / found - 1) for value, found in zip(before, row.found, strict=True)]
    assert max(*errors, *map(abs, row.errors)) <= 0.15, (before, row)


def test_a_module_is_estimated_as_it_is() -> None:
    """In a notebook: neither file nor command; its mode and weights stay, and what is no such network is refused."""
    place: dict[str, type[torch.nn.Module]] = {}
    exec(compile(example(), "cell", "exec"), place)
    module = place["Net"](4)
    kept = {key: value.clone() for key, value in module.state_dict().items()}
    found = estimate(module)
    assert module.training and all(torch.equal(value, kept[key]) for key, value in module.state_dict().items())
    assert [row.operator for row in found.layers].count("ADD") == 1 and found.fits
    with pytest.raises(TrainerError, match="GELU is not supported"):
        estimate(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.GELU(), torch.nn.Linear(1960, 4)))


def test_a_padded_average_and_conv1d_become_what_export_makes_of_them(tmp_path: Path) -> None:
    """Layer by layer the operators of the untrained graph are those that the exported one has."""
    for text in (example(), MIXED):
        own = read(tmp_path, text)
        quant = QuantNetwork(fold_norms(own.network().eval()), SPEC.features, QuantOptions(fixed_steps=True))
        quant.eval().calibrate_steps(torch.rand(8, 1, 49, 40) * 26)
        exported = read_onnx(to_onnx(quant, SPEC))
        untrained = untrained_graph(own.architecture.layers, SPEC.features)
        shapes = [
            [
                (type(layer).__name__, graph.tensors[layer.output].shape)
                for layer in graph.layers
                if layer.cost(graph).macs
            ]
            for graph in (exported, untrained)
        ]
        assert shapes[0] == shapes[1]


def test_the_run_folder_keeps_the_file_and_never_runs_it(trained: Path, tmp_path: Path) -> None:
    artifact = ModelArtifact.load(trained)
    assert artifact.network is not None and (artifact.network.file, artifact.network.name) == ("my_net.py", "Net")
    kept = trained / "network.py"
    assert artifact.network.sha256 == hashlib.sha256(kept.read_bytes()).hexdigest()
    source = kept.read_bytes()
    kept.write_text("raise SystemExit('run from the run folder')\n")
    try:
        load_float(artifact)
    finally:
        kept.write_bytes(source)
    raw = json.loads((trained / "artifact.json").read_text())
    raw["network"] = {"file": "my_net.py", "name": 3, "sha256": ""}
    (tmp_path / "artifact.json").write_text(json.dumps(raw))
    assert b'"network"' not in replace(artifact, network=None).to_bytes()
    with pytest.raises(ArtifactError, match=r"network\.name: must be text"):
        ModelArtifact.load(tmp_path)


def test_layers_that_do_not_fit_are_a_damaged_checkpoint(trained: Path, tmp_path: Path) -> None:
    state = torch.load(trained / "float.pt", weights_only=True)
    (tmp_path / "artifact.json").write_bytes((trained / "artifact.json").read_bytes())
    layers = state["architecture"]["layers"]
    for changed in ({"inputs": ("nothing",)}, {"kind": "add"}, {"kind": "fft"}, {"channels": (7, 16)}):
        state["architecture"]["layers"] = (*layers[:1], {**layers[1], **changed}, *layers[2:])
        torch.save(state, tmp_path / "float.pt")
        with pytest.raises(TrainerError, match="not of this network"):
            load_float(ModelArtifact.load(tmp_path))


@pytest.mark.parametrize("bits", [8, 4])
def test_conv1d_average_pools_and_lone_activations(tmp_path: Path, bits: int) -> None:
    """Read as they are, and exported: the int8 graph gives what fake quantization does."""
    own = read(tmp_path, MIXED)
    kinds = [layer.kind for layer in own.architecture.layers]
    assert kinds.count("activation") == 1 and {"turn", "average", "max", "dropout_maps"} <= set(kinds)
    quant = QuantNetwork(fold_norms(own.network().eval()), SPEC.features, QuantOptions(bits=bits, fixed_steps=bits < 8))
    inputs = np.random.default_rng(0).integers(-128, 128, (8, 49, 40)).astype(np.int8)
    x = (torch.from_numpy(inputs).float()[:, None] - SPEC.features.zero_point) * quant.input_scale
    with torch.no_grad():
        if bits < 8:
            quant.eval().calibrate_steps(x)
        quant.train()(x)
        expected = quant.eval().integer_layers(x)
    graph = read_onnx(to_onnx(quant, SPEC))
    found = run_batch_all(graph, inputs[..., None])
    named = {tensor.name: values for tensor, values in zip(graph.tensors, found, strict=True)}
    steps = {}
    for name, value in expected.items():
        ours = named[f"{name}_q"].astype(int)
        steps[name] = int(np.abs(ours.reshape(8, -1) - value.numpy().reshape(8, -1)).max())
    assert set(steps) == {layer.name for layer in own.architecture.layers} - {"transpose", "drop"}
    assert steps["features_"] <= 1 and (bits < 8 or max(steps.values()) <= 3), steps


def test_a_network_that_pads_learns_from_scenes(tmp_path: Path) -> None:
    """`--negatives`: each of its windows is computed alone, in training and in the streams that set the thresholds."""
    rng = np.random.default_rng(0)
    features = rng.integers(-128, 128, (6, 150, 40)).astype(np.int8)
    targets = np.array([[-2] * 51, [-2] * 20 + [2] * 6 + [-2] * 25] * 3, np.int8)
    scenes, heard = (
        Scenes(features, targets, np.zeros(6, np.int8)),
        LabelledClips(features[:4, :49], np.arange(4), ("",) * 4, np.zeros((4, 1), np.int16)),
    )
    settings = TrainSettings(epochs=2, batch=3, scenes=SceneSettings())
    network = read(tmp_path, example()).network()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with Progress(disable=True) as progress:
        history = fit(network, scenes, heard, settings, SPEC.features, tmp_path / "training.pt", progress)
    assert len(history) == 2 and all(np.isfinite(epoch.train_loss) for epoch in history)
    learned = zip(before, network.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in learned if new.requires_grad)
    quant = QuantNetwork(fold_norms(network.eval()), SPEC.features, QuantOptions())
    quant.train()(to_batch(features[:, :49], SPEC.features))
    found = stream_outputs(quant.eval(), features[0])
    assert np.array_equal(found[3], quant_outputs(quant)(features[:1, 6:55])[0]) and len(found) == 51


FORWARD = "    def forward(self, x):\n        "
INIT = "    def __init__(self):\n        super().__init__()\n        "
REFUSED = {
    "operator": (
        f"{FORWARD}x = self.conv(x)\n        return self.head(F.gelu(x))",
        "py:13: gelu is not supported; a netw",
    ),
    "module": (
        f"{INIT}self.lstm = nn.LSTM(40, 4)\n{FORWARD}return self.lstm(x.squeeze(1))[0]",
        "py:15: LSTM is not supported",
    ),
    "product": (f"{FORWARD}return self.head(self.conv(x) * 2)", "py:12: mul is not supported"),
    "constant": (
        f"{FORWARD}return self.head(self.conv(x) + torch.ones(1))",
        "py:12: the tensor _tensor_constant0 is not",
    ),
    "shared": (f"{FORWARD}return self.logits(self.head(self.conv(x)))", "py:12: Linear shares its weights with logits"),
    "norm": (f"{FORWARD}return self.head(self.norm(F.relu(self.conv(x))))", "py:12: BatchNorm2d must stand directly"),
    "padding": (
        f"{FORWARD}return self.head(F.max_pool2d(self.conv(x), 3, 2, 1))",
        "py:12: max_pool2d/MaxPool: its pads",
    ),
    "control flow": (
        f"{FORWARD}if x.sum() > 0:\n            x = -x\n        return x",
        r"py:12: torch\.fx cannot follow",
    ),
    "sizes": (
        f"{FORWARD}return self.logits(self.conv(x).flatten(1))",
        r"py:12: Linear fails on features \(2, 1, 49, 40\)",
    ),
    "in place": (
        f"{FORWARD}x = self.conv(x)\n        return self.head(F.relu(x, inplace=True) + x)",
        "something else th",
    ),
    "shape": (
        f"{INIT}self.logits = nn.Linear(4, 3)\n{FORWARD}return self.head(self.conv(x))",
        r"logits \[n, 4\], .*, 3\)",
    ),
    "end": (
        f"{FORWARD}return self.conv(x).mean((2, 3))",
        "must end in a Linear, whose outputs are the logits, ends in mean",
    ),
    "inputs": (f"{FORWARD}return x".replace("x)", "x, y)"), "forward must take the features alone, takes x, y"),
    "constructor": (
        f"{INIT}self.conv = nn.Conv2d(1, 4, 3, groups=2)",
        r"py:13: Net\(\) raises ValueError: in_channels",
    ),
    "arguments": (
        "    def __init__(self, labels, width): pass",
        r"Net\(labels, width\) needs more than the number of labels",
    ),
    "memory": (
        f"{INIT}self.conv, self.logits = nn.Conv2d(1, 400, 3), nn.Linear(400, 4)\n"
        f"{FORWARD}return self.head(self.conv(x))",
        "over the RAM of the nRF52840",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_network_is_refused(tmp_path: Path, name: str) -> None:
    text, sentence = REFUSED[name]
    with pytest.raises(TrainerError, match=sentence):
        read(tmp_path, BASE + text + "\n")


def test_files_that_hold_no_network_are_refused(tmp_path: Path) -> None:
    for text, sentence in (
        (f"{HEAD}class Net(nn.Module)\n    pass\n", r"my_net.py:4: not Python \(SyntaxError"),
        (f"{HEAD}class Other(nn.Module): pass\n", r"my_net.py: has no torch.nn.Module Net; it has Other"),
        (f"{HEAD}nothing\n", r"my_net.py:4: the file raises NameError"),
    ):
        with pytest.raises(TrainerError, match=sentence):
            read(tmp_path, text)
    with pytest.raises(TrainerError, match=r"absent\.py: cannot be read"):
        read_network(f"{tmp_path / 'absent.py'}:Net", SPEC, 0)
    with pytest.raises(TrainerError, match=r"names a file and a class in it, as my_net\.py:Net"):
        read_network("my_net.py", SPEC, 0)


def test_the_command_refuses_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(BASE + REFUSED["operator"][0] + "\n")
    named = ["train", "--out", str(tmp_path / "run"), "--network", f"{tmp_path / 'my_net.py'}:Net"]
    done = CliRunner().invoke(app, named)
    assert done.exit_code == 1 and "my_net.py:13: gelu is not supported" in done.output
    done = CliRunner().invoke(app, [*named, "--model", "tcn"])
    assert done.exit_code == 1 and "--network: brings its own layers" in done.output
    assert not (tmp_path / "run" / "artifact.json").exists()
