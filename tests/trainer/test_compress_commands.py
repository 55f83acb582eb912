"""prune, quantize and study as typed, in processes of their own, on a small corpus of generated sounds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_corpus
from rich.progress import Progress

from converter.run_folder import ModelArtifact
from converter.spec import KwsSpec
from trainer.data.augment import AugmentSettings, TrainingPool, load_split
from trainer.errors import TrainerError
from trainer.network.model import Architecture, Conv, Dense, build
from trainer.network.prune import prune
from trainer.network.quant_options import QuantOptions
from trainer.run import fit as fit_module
from trainer.run import steps as runs
from trainer.run.fit import Epoch, TrainSettings, fit, load_torch, predict
from trainer.run.prune import PruneOptions, Training, prune_run, rewind
from trainer.run.quantize import quantize_run
from trainer.studies import compression as study

ROOT = Path(__file__).resolve().parents[2]
SPEC = KwsSpec.of_words(["yes", "stop"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a float run in it, and the cache of its features."""
    home = tmp_path_factory.mktemp("home")
    corpus = trainer_corpus.make(home / "data", speakers=24)
    settings = TrainSettings(epochs=4, batch=32, augment=AugmentSettings(copies=1))
    here = Path.cwd()
    os.chdir(home)
    try:
        with Progress(disable=True) as progress:
            runs.train_run(home / "run", runs.Source(str(corpus)), SPEC, "tinyconv", settings, progress)
    finally:
        os.chdir(here)
    return home


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "trainer", *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_pruned_then_quantized(home: Path) -> None:
    """Half of the weights go, and stay gone through fine-tuning and 4-bit QAT; the float run itself is left as it
    was."""
    before = {f.name: f.read_bytes() for f in (home / "run").iterdir()}
    pruned = command(
        home, "prune", "run", "--kind", "unstructured", "--amount", "0.5", "--finetune", "1", "--out", "pruned"
    )
    assert pruned.returncode == 0 and "16652 parameters" in pruned.stdout, pruned.stderr
    assert re.search(
        r"kept by validation: .* \(before [\d.]+ %; 0.5 gave [\d.]+, 0.1 gave .*, 0.02 gave", pruned.stdout
    )
    done = command(home, "quantize", "pruned", "--method", "qat", "--bits", "4", "--epochs", "1", "--out", "q4")
    assert done.returncode == 0 and "4-bit validation accuracy" in done.stdout, done.stderr
    artifact = ModelArtifact.load(home / "q4")
    assert artifact.results["qat"]["bits"] == 4 and artifact.results["prune"]["amount"] == 0.5
    zeros = {n: b.weight == 0 for n, b in runs.load_float(artifact).blocks.items() if isinstance(b, (Conv, Dense))}
    assert sum(int(z.sum()) for z in zeros.values()) == (16_652 - 12) // 2
    quant = runs.load_quant(artifact)
    assert all(bool((quant.constants(n, torch.tensor(0.1)).weight[zero] == 0).all()) for n, zero in zeros.items())
    assert {f.name: f.read_bytes() for f in (home / "run").iterdir()} == before


def test_validation_chooses_the_rate_of_fine_tuning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of all rates and of the network as pruned is kept, and it measures what the facts say; where every rate
    ruins it, it stays as it was."""
    monkeypatch.chdir(home)
    quiet = Progress(disable=True)
    selection = runs.Source.load(Path("run")).selection(SPEC, quiet)
    validation = load_split(selection, "validation", runs.CACHE, quiet)
    plain = prune_run(Path("run"), Path("plain"), PruneOptions("unstructured", 0.98), None, quiet)
    as_pruned = runs.load_float(plain).state_dict()

    def made(*shares: float) -> tuple[dict[str, Any], torch.nn.Module]:
        monkeypatch.setattr("trainer.run.prune.FINE_TUNE_SHARES", shares)
        tuned = prune_run(Path("run"), Path("tuned"), PruneOptions("unstructured", 0.98, finetune=4), None, quiet)
        assert not list(Path("tuned").glob("*training*.pt"))
        facts, network = tuned.results["prune"], runs.load_float(tuned)
        assert runs.measured(network, validation, SPEC.features).items() <= facts.items()
        assert facts["before_finetune"] == plain.results["prune"]["validation_accuracy"]
        assert list(facts["tried"]) == [f"{share:g}" for share in shares]
        return facts, network

    facts, network = made(500.0, 0.5)
    assert facts["rate_share"] == 0.5 and facts["tried"]["0.5"] >= max(facts["tried"]["500"], facts["before_finetune"])
    assert facts["settings"]["learning_rate"] == 0.5 * TrainSettings().learning_rate
    assert any(not torch.equal(as_pruned[key], value) for key, value in network.state_dict().items())
    facts, network = made(500.0)
    assert facts["rate_share"] == 0 and facts["tried"]["500"] <= facts["before_finetune"]
    assert all(torch.equal(as_pruned[key], value) for key, value in network.state_dict().items())


def test_fine_tuning_that_was_stopped_goes_on_at_its_rate(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second of three rates: the first is not trained again, and the result is that of an unbroken
    run."""
    monkeypatch.chdir(home)
    options, quiet, epochs = PruneOptions("unstructured", 0.5, finetune=2), Progress(disable=True), list[str]()

    def counted(run: Any, *rest: Any) -> Any:
        epochs.append(run.checkpoint.name)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        return one_epoch(run, *rest)

    one_epoch = fit_module._epoch
    whole = prune_run(Path("run"), Path("unbroken"), options, None, quiet)
    monkeypatch.setattr(fit_module, "_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        prune_run(Path("run"), Path("stopped"), options, None, quiet)
    again = prune_run(Path("run"), Path("stopped"), options, None, quiet)
    assert [name[-8:-3] for name in epochs] == ["g_0.5", "g_0.5", *["g_0.1"] * 3, *["_0.02"] * 2]
    assert again.results == whole.results and not list(Path("stopped").glob("*training*.pt"))
    one, other = (runs.load_float(artifact).state_dict() for artifact in (whole, again))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_ticket_of_epoch_0_has_the_weights_that_training_began_with(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the seed, or of the run that was given as --start in all layers but the last, where they survive."""
    monkeypatch.chdir(home)
    quiet = Progress(disable=True)
    own = runs.load_float(ModelArtifact.load("run"))
    settings = runs.saved_settings(ModelArtifact.load("run"))
    selection = runs.Source.load(Path("run")).selection(SPEC, quiet)
    validation = load_split(selection, "validation", runs.CACHE, quiet)
    pool = runs.pool_of(runs.Source.load(Path("run")), selection, settings, quiet)
    for start in (None, "run"):
        ticket = prune(own, "unstructured", 0.8, "l2")
        kept = {key: value != 0 for key, value in ticket.state_dict().items() if key.endswith("weight")}
        options = PruneOptions("unstructured", 0.8, rewind=0)
        rewind(ticket, 0, Training(pool, validation, settings, SPEC.features, home, options, quiet), start)
        begun = runs.untrained(own.architecture, settings.seed, start).state_dict()
        for key, value in ticket.state_dict().items():
            assert torch.equal(value, begun[key] * kept[key] if key in kept else begun[key])
        trained = {key for key, value in own.state_dict().items() if torch.equal(value, begun[key])}
        assert any(key in trained for key in kept) == (start is not None)


def test_a_ticket_goes_back_to_its_epoch_and_through_the_rest(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no weight gone and back to the start it is the run's own training, bit for bit; back to epoch 2 it begins
    with the weights that a training stopped there has, but for the zeros."""
    monkeypatch.chdir(home)
    quiet = Progress(disable=True)
    whole = prune_run(Path("run"), Path("whole"), PruneOptions("unstructured", 1e-6, rewind=0), None, quiet)
    own = runs.load_float(ModelArtifact.load(Path("run"))).state_dict()
    assert all(torch.equal(own[key], value) for key, value in runs.load_float(whole).state_dict().items())

    begun: list[dict[str, torch.Tensor]] = []

    def watching(network: torch.nn.Module, *rest: Any, **named: Any) -> list[Epoch]:
        begun.append({key: value.clone() for key, value in network.state_dict().items()})
        return fit(network, *rest, **named)

    monkeypatch.setattr("trainer.run.prune.fit", watching)
    ticket = prune_run(Path("run"), Path("ticket"), PruneOptions("unstructured", 0.8, rewind=2), None, quiet)
    assert not list(Path("ticket").glob("*training.pt")) and not Path("ticket/rewound.pt").exists()
    artifact = ModelArtifact.load(Path("run"))
    settings, source = runs.saved_settings(artifact), runs.Source.load(Path("run"))
    selection = source.selection(SPEC, quiet)
    validation = load_split(selection, "validation", runs.CACHE, quiet)
    pool = runs.pool_of(source, selection, settings, quiet)
    torch.manual_seed(settings.seed)
    network = build(Architecture.of("tinyconv", 4, SPEC.features, settings.dropout))

    def interrupt(epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network, pool, validation, settings, SPEC.features, home / "stopped.pt", quiet, before_epoch=interrupt)
    stopped = load_torch(home / "stopped.pt")["network"]
    after = runs.load_float(ticket).state_dict()
    weights = [key for key in stopped if key.endswith("weight")]
    gone = {key: begun[1][key] == 0 for key in weights}
    assert sum(int(zero.sum()) for zero in gone.values()) == pytest.approx(0.8 * 16_640, abs=1)
    for key in stopped:
        assert torch.equal(begun[1][key], stopped[key] * ~gone[key] if key in gone else stopped[key])
        assert key not in gone or torch.equal(after[key] == 0, gone[key])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("prune", "run", "--kind", "unstructured", "--amount", "0.5", "--rewind", "4", "--out", "x"),
            "--rewind: must be an epoch of run's training, 0 to 3, got 4",
        ),
        (
            ("prune", "run", "--kind", "structured", "--amount", "0.5", "--rewind", "1", "--out", "x"),
            "--rewind: goes with --kind unstructured and without --finetune; leave the other out",
        ),
        (
            ("prune", "run", "--kind", "unstructured", "--amount", "1.5", "--out", "x"),
            "--amount: must lie between 0 and 1, got 1.5",
        ),
        (("quantize", "run", "--bits", "9", "--out", "x"), "--bits: must be in 2..8, got 9"),
    ],
)
def test_bad_input_is_one_sentence(home: Path, arguments: tuple[str, ...], said: str) -> None:
    done = command(home, *arguments)
    assert done.returncode == 1 and done.stderr.strip() == f"error: {said}" and not done.stdout, done.stderr
    assert not (home / "x" / "float.pt").exists()


@pytest.mark.parametrize("name", study.STUDIES)
def test_every_point_has_a_folder_of_its_own(name: str) -> None:
    points = {point for table in study.STUDIES[name]() for _, row in table.rows for point in row}
    assert len({point.name for point in points}) == len(points) > 10
    if name == "pruning":
        assert {p.prune.rewind for p in points if p.prune} == {None, *study.TICKET_EPOCHS}


def test_the_study_resumes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table names every point with its figures; a second run makes none again; other points of the folder are left
    alone."""
    points = (
        study.Point(PruneOptions("structured", 0.5)),
        study.Point(None, "ptq"),
        study.Point(None, "ptq", QuantOptions(4, scheme="asymmetric-weights")),
    )
    monkeypatch.setitem(
        study.STUDIES, "small", lambda: [study.Table("Small", ("what", "a", "b", "c"), (("row", points),), sizes=True)]
    )
    monkeypatch.chdir(home)
    with Progress(disable=True) as progress:
        text = study.study("small", [Path("run")], home / "study", progress).read_text()
        facts = json.loads((home / "study" / "small.json").read_text())
        assert [f["runs"][0]["parameters"] for f in facts] == [8328, 16652, 16652] and "| row | 16,652 |" in text
        accuracy = [f["runs"][0]["accuracy"] for f in facts]
        assert all(f"{a:.2f}" in text for a in accuracy) and f"n = {facts[0]['runs'][0]['n']}" in text
        monkeypatch.setattr(study, "_facts", None)
        assert study.study("small", [Path("run")], home / "study", progress).read_text() == text
        with pytest.raises(TrainerError, match="names of their own"):
            study.study("small", [Path("run"), Path("run")], home / "study", progress)
        with pytest.raises(TrainerError, match="study: must be one of"):
            study.study("all", [Path("run")], home / "study", progress)


def test_a_float_network_teaches_where_no_teacher_did(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QAT below 8 bits of a run without a teacher learns from the run's own float scores."""
    teacher_logits = []

    def watching(network: torch.nn.Module, pool: TrainingPool, *rest: Any, **named: Any) -> list[Epoch]:
        teacher_logits.append(pool.teacher_logits)
        return fit(network, pool, *rest, **named)

    monkeypatch.setattr("trainer.run.fine_tune.fit", watching)
    monkeypatch.chdir(home)
    with Progress(disable=True) as progress:
        for bits in (4, 8):
            quantize_run(Path("run"), Path(f"t{bits}"), "qat", QuantOptions(bits), 1, None, progress)
    assert teacher_logits[0] is not None and teacher_logits[1] is None
    features = SPEC.features
    pool = runs.pool_of(
        runs.Source.load(Path("run")),
        runs.Source.load(Path("run")).selection(SPEC, progress),
        runs.saved_settings(ModelArtifact.load("run")),
        progress,
    )
    assert isinstance(pool, TrainingPool)
    expected = predict(runs.load_float(ModelArtifact.load("run")), pool.silence, features)
    torch.testing.assert_close(torch.from_numpy(teacher_logits[0][2]), expected)
