"""Image CNNs: their sizes, their files, pruning that shrinks the file, masks that stay, low bits on integer grids; all
by the commands."""

from __future__ import annotations

import doctest
import gzip
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from typer.testing import CliRunner, Result

from converter import reference
from converter.onnx_qdq.reader import read_onnx
from converter.operators.max_pool2d import MaxPool2D
from trainer.__main__ import app
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import Architecture, Conv, Dense, build, fold_norms
from trainer.network.onnx_export import to_onnx
from trainer.network.prune import StoredBytes, hold_zeros, prune, stored_bytes
from trainer.network.quant_options import QuantOptions
from trainer.run.prune import PruneOptions
from trainer.studies import images_tables as images_study
from trainer.studies.images import (
    PIXELS,
    ImageRun,
    ImageSettings,
    fit_pictures,
    load_network,
    load_pictures,
    macs,
    prune_images,
    real,
    train_images,
)

QUIET = Progress(disable=True)


def write_idx(folder: Path, name: str, values: NDArray[Any]) -> None:
    raw = (
        bytes((0, 0, 8, values.ndim))
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.astype(np.uint8).tobytes()
    )
    (folder / f"{name}.gz").write_bytes(gzip.compress(raw))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 pictures of 12 x 12, a bright bar at one of ten places, as MNIST's test files."""
    folder = tmp_path_factory.mktemp("digits")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    pictures = rng.integers(0, 60, (500, 12, 12))
    for picture, label in zip(pictures, labels, strict=True):
        picture[label + 1, 2:10] += 150
    write_idx(folder, "t10k-images-idx3-ubyte", pictures)
    write_idx(folder, "t10k-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("images") / "run"
    train_images(out, digits, "mnist_cnn", ImageSettings(epochs=6, batch=25), QUIET)
    return out


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_an_amount_that_was_not_possible_says_what_was_asked_for() -> None:
    assert doctest.testmod(images_study).attempted and not doctest.testmod(images_study).failed


def test_the_networks_have_the_sizes_of_the_reports() -> None:
    mnist = build(Architecture.of_pictures("mnist_cnn", 10, (1, 28, 28)))
    assert mnist.parameter_count == 1_199_882 and round(stored_bytes(mnist, 4).dense / 2**20, 2) == 4.58
    assert macs(mnist) == 26 * 26 * 32 * 9 + 24 * 24 * 64 * 288 + 9216 * 128 + 1280
    for shape in ((1, 28, 28), (3, 32, 32)):
        blocks = build(Architecture.of_pictures("conv4", 10, shape)).eval().blocks.values()
        assert sum(isinstance(b, Conv) for b in blocks) == 4 and sum(isinstance(b, Dense) for b in blocks) == 3
        x = torch.rand(2, *shape)
        for block in blocks:
            x = block(x)
        assert x.shape == (2, 10)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("model", ["mnist_cnn", "conv4"])
def test_pruned_channels_leave_the_file_and_the_next_layers(model: str, norm: str) -> None:
    """What is left computes what the network with those channels at zero computes, and the dense layer lost their
    inputs."""
    torch.manual_seed(0)
    network = build(Architecture.of_pictures(model, 10, (1, 12, 12))).eval()
    pruned = prune(network, "structured", 0.75, norm)
    convs = [(network.blocks[n], pruned.blocks[n]) for n, b in network.blocks.items() if isinstance(b, Conv)]
    with torch.no_grad():
        before = torch.arange(1)
        for full, small in convs:
            assert isinstance(full, Conv) and isinstance(small, Conv) and len(small.bias) * 4 == len(full.bias)
            kept = torch.stack([(full.weight[:, before] == w).flatten(1).all(1).nonzero()[0, 0] for w in small.weight])
            gone = [i for i in range(len(full.bias)) if i not in kept.tolist()]
            full.weight[gone], full.bias[gone], before = 0.0, 0.0, kept
        x = torch.rand(4, 1, 12, 12)
        torch.testing.assert_close(pruned(x), network(x), rtol=1e-4, atol=1e-5)
    first = next(b for b in pruned.blocks.values() if isinstance(b, Dense))
    assert first.weight.shape[1] * 4 == next(b for b in network.blocks.values() if isinstance(b, Dense)).weight.shape[1]


def test_stored_bytes_count_what_a_reader_needs() -> None:
    """Rebuilt from its gaps and from its bit map by hand: a row of 600 with weights at 0, 3 and 599."""
    network = build(Architecture.of_pictures("mnist_cnn", 10, (1, 12, 12)))
    total = 0
    with torch.no_grad():
        for block in network.blocks.values():
            if isinstance(block, (Conv, Dense)):
                block.weight.zero_()
                total += block.weight.numel()
        dense = network.blocks["dense"]
        assert isinstance(dense, Dense)
        dense.weight[0, [0, 3, 599]] = 1.0
    rows, biases = 32 + 64 + 128 + 10, 4 * (32 + 64 + 128 + 10)
    found = stored_bytes(network, 4)
    assert found == StoredBytes(
        4 * total + biases, 12 + biases, 5 * (3 + 2) + 2 * rows + biases, 12 + total // 8 + biases
    )


def test_low_bits_lie_on_their_grid_and_zeros_stay(trained: Path, digits: Path) -> None:
    network = prune(load_network(ImageRun.load(trained)), "unstructured", 0.8, "l1")
    pictures = load_pictures(digits)
    quant = QuantNetwork(fold_norms(network), PIXELS, QuantOptions(4, calibration="mse", fixed_steps=True)).eval()
    quant.calibrate_steps(real(pictures.train))
    zeros = {n: b.weight == 0 for n, b in quant.network.blocks.items() if isinstance(b, (Conv, Dense))}
    hold_zeros(quant.network)
    fit_pictures(quant, pictures, ImageSettings(epochs=1, batch=50), QUIET, "")
    outputs = quant.integer_layers(real(pictures.test))
    assert (
        all(int(outputs[n].min()) >= 112 for n in ("conv1", "conv2", "dense")) and len(np.unique(outputs["conv2"])) > 8
    )
    assert torch.equal(
        outputs["pool"],
        torch.nn.functional.max_pool2d(outputs["conv2"].permute(0, 3, 1, 2).float(), 2)
        .permute(0, 2, 3, 1)
        .to(torch.int8),
    )
    scale = torch.tensor(quant.input_scale)
    for name, zero in zeros.items():
        constants = quant.constants(name, scale)
        assert int(constants.weight.abs().max()) <= 7 and bool((constants.weight[zero] == 0).all()), name
        scale = quant.output_quant(name)[0]


def test_the_commands_make_runs_of_runs(trained: Path, digits: Path, tmp_path: Path) -> None:
    """images, prune and quantize as typed; structured pruning shrinks float.pt itself, fine-tuning mends what pruning
    broke."""
    made = command("images", "--data", digits, "--model", "mnist_cnn", "--epochs", 1, "--out", tmp_path / "a")
    assert made.exit_code == 0 and "(n = 100)" in made.stdout, made.output
    cut = command("prune", trained, "--kind", "structured", "--amount", 0.75, "--finetune", 3, "--out", tmp_path / "b")
    assert cut.exit_code == 0, cut.output
    facts = ImageRun.load(tmp_path / "b").results
    assert (tmp_path / "b" / "float.pt").stat().st_size < 0.35 * (trained / "float.pt").stat().st_size
    assert (
        facts["prune"]["before_finetune"]["accuracy"] <= facts["prune"]["accuracy"] and facts["train"]["accuracy"] > 80
    )
    quantized = command("quantize", tmp_path / "b", "--method", "ptq", "--bits", 4, "--out", tmp_path / "c")
    assert quantized.exit_code == 0 and "4-bit accuracy on the test pictures" in quantized.stdout, quantized.output
    assert json.loads((tmp_path / "c" / "images.json").read_text())["results"]["qat"]["n"] == 100
    assert read_onnx((tmp_path / "c" / "model.onnx").read_bytes()).layers


@pytest.mark.parametrize(("model", "shape"), [("mnist_cnn", (1, 12, 12)), ("conv4", (3, 16, 8))])
def test_the_exported_integers_are_those_that_were_measured(model: str, shape: tuple[int, int, int]) -> None:
    """Every layer of the ONNX file, run by the integer reference, as the fake-quantized network: nearly all equal, the
    rest a step off."""
    torch.manual_seed(0)
    network = build(replace(Architecture.of_pictures(model, 10, shape), width=4)).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (20, *shape)).astype(np.uint8)
    quant = QuantNetwork(network, PIXELS, QuantOptions(8, calibration="mse", fixed_steps=True)).eval()
    quant.calibrate_steps(real(pictures))
    graph = read_onnx(to_onnx(quant, None))
    x_nhwc = (pictures.astype(np.int16) - 128).astype(np.int8).transpose(0, 2, 3, 1)
    outputs, names = (
        reference.run_batch_all(graph, np.ascontiguousarray(x_nhwc)),
        {t.name: i for i, t in enumerate(graph.tensors)},
    )
    with torch.no_grad():
        expected = quant.integer_layers(real(pictures))
    for name, values in expected.items():
        found = outputs[names[f"{name}_q" if name != "scores" else graph.tensors[graph.layers[-1].output].name]]
        difference = np.abs(found.reshape(values.shape).astype(int) - values.numpy().astype(int))
        assert difference.max() <= 1 and (difference == 0).mean() > 0.9, (
            name,
            difference.max(),
            (difference == 0).mean(),
        )
    assert sum(isinstance(layer, MaxPool2D) for layer in graph.layers) == {"mnist_cnn": 1, "conv4": 2}[model]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("images", "--data", "nowhere", "--out", "x"), "must hold MNIST's idx files or CIFAR-10's binary files"),
        (("quantize", "RUN", "--bits", "4", "--method", "best", "--out", "x"), "--method: must be one of"),
        (
            ("prune", "RUN", "--kind", "structured", "--amount", "0.99", "--out", "x"),
            "must take out 1 to 31 of 32 channels",
        ),
        (("prune", "RUN", "--kind", "unstructured", "--amount", "0.5", "--out", "RUN"), "must be another folder"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], said: str, trained: Path, tmp_path: Path) -> None:
    before = {f.name: f.read_bytes() for f in trained.iterdir()}
    given = [str(trained) if a == "RUN" else str(tmp_path / a) if a in ("x", "nowhere") else a for a in arguments]
    done = command(*given)
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.exit_code == 1 and len(told) == 1 and said in told[0] and done.stderr.endswith(f"{told[0]}\n")
    assert {f.name: f.read_bytes() for f in trained.iterdir()} == before and not (tmp_path / "x").exists()


def test_cifar_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("data_batch_1", 4), ("data_batch_2", 3), ("test_batch", 2)):
        (tmp_path / f"{name}.bin").write_bytes(rng.integers(0, 10, (count, 3073)).astype(np.uint8).tobytes())
    found = load_pictures(tmp_path)
    assert found.train.shape == (7, 3, 32, 32) and found.test.shape == (2, 3, 32, 32)
    raw = np.frombuffer((tmp_path / "test_batch.bin").read_bytes(), np.uint8).reshape(2, 3073)
    assert found.test_labels.tolist() == raw[:, 0].tolist()
    assert found.test[1, 2, 31, 31] == raw[1, -1] and found.test[1, 1, 0, 0] == raw[1, 1025]
    (tmp_path / "test_batch.bin").write_bytes(b"123")
    with pytest.raises(TrainerError, match="records of 3073 bytes, got 3"):
        load_pictures(tmp_path)


@pytest.mark.parametrize("damage", ["short", "labels", "gzip"])
def test_damaged_idx_files_are_refused(digits: Path, damage: str, tmp_path: Path) -> None:
    for file in digits.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if damage == "labels":
        write_idx(tmp_path, "t10k-labels-idx1-ubyte", np.zeros(499))
    else:
        raw = (tmp_path / "t10k-images-idx3-ubyte.gz").read_bytes()
        (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(gzip.decompress(raw)[:-1]) if damage == "short" else raw[:99]
        )
    with pytest.raises(
        TrainerError, match={"short": "as long as it says", "labels": "in pairs", "gzip": "cannot be read"}[damage]
    ):
        load_pictures(tmp_path)


def test_the_study_resumes(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables hold every point; a second run makes none again, and gives the same text."""
    monkeypatch.setattr(images_study, "AMOUNTS", (0.5, 0.99))
    monkeypatch.setattr(images_study, "WIDTHS", (4,))
    monkeypatch.setattr(images_study, "FINE_TUNE_EPOCHS", 1)
    monkeypatch.setattr(images_study, "REPORTED", {k: [row[:2] for row in v] for k, v in images_study.REPORTED.items()})
    text = images_study.images_study([trained], tmp_path, QUIET).read_text()
    assert text.count("| 50 % |") == 2 and "| 96.9 % (99 % asked for) |" in text and "1,199,882" not in text

    def never(*_: object) -> ImageRun:
        raise AssertionError("made again")

    monkeypatch.setattr(images_study, "prune_images", never)
    monkeypatch.setattr(images_study, "quantize_images", never)
    assert images_study.images_study([trained], tmp_path, QUIET).read_text() == text


def test_pruned_runs_keep_their_zeros(trained: Path, tmp_path: Path) -> None:
    made = prune_images(trained, tmp_path / "p", PruneOptions("unstructured", 0.9, "l2", 1), None, QUIET)
    weights = [b.weight for b in load_network(made).blocks.values() if isinstance(b, (Conv, Dense))]
    assert sum(int((w == 0).sum()) for w in weights) >= int(0.9 * sum(w.numel() for w in weights))
