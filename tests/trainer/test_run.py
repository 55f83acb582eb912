"""Training, the run folder and the commands, on a small corpus of generated sounds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trainer_corpus
from rich.console import Console
from rich.progress import Progress

from converter.audio.tables import compute_tables
from converter.onnx_qdq.reader import read_onnx
from converter.reference import run_batch
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec, FeatureSpec, KwsSpec
from host.link.detector import Detector
from trainer.data.augment import AugmentSettings, LabelledClips, TrainingPool, augment, load_split, training_pool
from trainer.data.dataset import select
from trainer.data.recordings import write_wav
from trainer.errors import TrainerError
from trainer.network.model import Architecture, build
from trainer.network.quant_options import QuantOptions
from trainer.run import evaluate
from trainer.run import fit as train
from trainer.run import steps as runs
from trainer.run.detector_tuning import Trial, decisions, judge_trial
from trainer.run.fit import TrainSettings, fit, schedule
from trainer.run.quantize import quantize_run

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
SPEC = KwsSpec.of_words(["yes", "stop"])
SMALL = TrainSettings(epochs=6, batch=32, augment=AugmentSettings(copies=2))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trainer_corpus.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def sets(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingPool, LabelledClips]:
    cache = tmp_path_factory.mktemp("cache")
    with Progress(disable=True) as progress:
        chosen = select(corpus, SPEC)
        return training_pool(chosen, SMALL.augment, cache, progress), load_split(chosen, "validation", cache, progress)


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by the library's own functions: trained, quantized, exported."""
    home = tmp_path_factory.mktemp("home")
    here = Path.cwd()
    os.chdir(home)
    try:
        with Progress(disable=True) as progress:
            runs.train_run(home / "run", runs.Source(str(corpus)), SPEC, "tinyconv", SMALL, progress)
            quantize_run(home / "run", home / "run", "qat", QuantOptions(), 2, None, progress)
            runs.export_run(home / "run", None, progress)
            evaluate.evaluate_run(home / "run", None, progress)
    finally:
        os.chdir(here)
    return home / "run"


def fitted(
    sets: tuple[TrainingPool, LabelledClips],
    checkpoint: Path,
    settings: TrainSettings,
) -> tuple[dict[str, torch.Tensor], list[train.Epoch]]:
    torch.manual_seed(settings.seed)
    network = build(Architecture.of("tinyconv", 4, SPEC.features, settings.dropout))
    with Progress(disable=True) as progress:
        history = fit(network, *sets, settings, SPEC.features, checkpoint, progress)
    return network.state_dict(), history


def test_training_learns_and_repeats(sets: tuple[TrainingPool, LabelledClips], tmp_path: Path) -> None:
    state, history = fitted(sets, tmp_path / "a.pt", SMALL)
    again, same = fitted(sets, tmp_path / "b.pt", SMALL)
    assert history == same and all(torch.equal(state[k], again[k]) for k in state)
    assert history[-1].train_loss < 0.8 * history[0].train_loss
    other, _ = fitted(sets, tmp_path / "c.pt", replace(SMALL, seed=1))
    assert not torch.equal(state["blocks.conv.conv.weight"], other["blocks.conv.conv.weight"])


def test_warp_moves_frequencies_by_one_factor_a_clip_and_nothing_when_off() -> None:
    """What is loudest in one channel is found at its frequency divided by the clip's factor, by the front end's own
    filterbank."""
    spec = SPEC.features
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    x = torch.zeros(64, 1, 4, spec.channels)
    assert train.warped(x, spec, 0.0, generator) is x and torch.equal(generator.get_state(), before)
    tables = compute_tables(spec)
    weights = np.zeros((spec.channels + 2, len(tables.weights)))  # of channel number - 1
    triangles = np.repeat(np.arange(spec.channels + 1), tables.widths)
    bins = np.arange(len(triangles))
    weights[triangles, bins], weights[triangles + 1, bins] = np.array(tables.weights).T
    centres_hz = (weights @ (tables.first_bin + bins) * 31.25 / weights.sum(1))[1:-1]
    factors = torch.exp((2 * torch.rand(64, 1, generator=torch.Generator().manual_seed(0)) - 1) * 0.12)[:, 0]
    channels = torch.arange(spec.channels, dtype=torch.float32)
    for channel in (10, 20, 30):
        x[:] = torch.exp(-((channels - channel) ** 2) / 4)
        moved = train.warped(x, spec, 0.12, generator.manual_seed(0))[:, 0, 0]
        found = np.interp((moved * channels).sum(1) / moved.sum(1), np.arange(spec.channels), centres_hz)
        assert np.abs(found * factors.numpy() / centres_hz[channel] - 1).max() < 0.02


def test_interrupted_training_gives_the_same_result(
    sets: tuple[TrainingPool, LabelledClips],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped in the middle of epoch 3 and started again: weights and history as without the interruption."""
    whole, history = fitted(sets, tmp_path / "whole.pt", SMALL)
    calls = 0
    real = train.masked

    def stopping(x: torch.Tensor, settings: TrainSettings, generator: torch.Generator) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3 * -(-sets[0].epoch_size // SMALL.batch) + 1:
            raise KeyboardInterrupt
        return real(x, settings, generator)

    monkeypatch.setattr(train, "masked", stopping)
    with pytest.raises(KeyboardInterrupt):
        fitted(sets, tmp_path / "cut.pt", SMALL)
    monkeypatch.setattr(train, "masked", real)
    assert len(train.load_torch(tmp_path / "cut.pt")["history"]) == 3
    resumed, later = fitted(sets, tmp_path / "cut.pt", SMALL)
    assert later == history
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_checkpoint_of_other_settings_is_not_continued(
    sets: tuple[TrainingPool, LabelledClips], tmp_path: Path
) -> None:
    fitted(sets, tmp_path / "a.pt", replace(SMALL, epochs=2, seed=3))
    _, history = fitted(sets, tmp_path / "a.pt", replace(SMALL, epochs=2, seed=4))
    _, fresh = fitted(sets, tmp_path / "b.pt", replace(SMALL, epochs=2, seed=4))
    assert history == fresh


def test_epoch_holds_the_stated_classes(sets: tuple[TrainingPool, LabelledClips]) -> None:
    pool, _ = sets
    _, labels, teacher_logits = pool.epoch(np.random.default_rng(0))
    assert teacher_logits is None and len(labels) == pool.epoch_size
    counts = np.bincount(labels, minlength=4)
    assert counts[2] + counts[3] == len(pool.labels)
    assert counts[0] == pool.extra and counts[1] == min(pool.extra, pool.unknown.shape[1])


def test_augmentation_keeps_its_rules() -> None:
    """Noise on 80 % of clips at a volume of at most 0.1; shifts of at most 100 ms."""
    spec, settings = FeatureSpec(), AugmentSettings(gain_db=(0.0, 0.0))
    rng = np.random.default_rng(0)
    clips = np.zeros((600, 16000), np.int16)
    clips[:, 8000] = 20000
    noise = np.full(40000, 10000, np.int16)
    shifts = rng.uniform(-100, 100, 600)
    heard = augment(clips, shifts, [noise], settings, spec, rng)
    level = heard[:, 0]
    assert 0.75 < (level > 0).mean() < 0.85 and level.max() <= 1000
    assert np.array_equal(heard.argmax(axis=1) - 8000, np.trunc(shifts * 16).astype(int))


def test_schedule_rises_and_falls() -> None:
    values = [schedule(e, 100) for e in np.arange(0, 100, 0.5)]
    top = int(np.argmax(values))
    assert (
        8 <= top <= 12 and values[:top] == sorted(values[:top]) and values[top:] == sorted(values[top:], reverse=True)
    )
    assert values[-1] < 0.02


def test_decisions_equal_the_hosts_detector() -> None:
    """The vectorised detector against the twin of the firmware's, on random scores."""
    rng = np.random.default_rng(1)
    total = 0
    for _ in range(60):
        count = int(rng.integers(1, 9))
        numbers = int(rng.integers(1, 5)), count, int(rng.integers(0, 30)), int(rng.integers(0, 50))
        spec = DetectorSpec(tuple((count * rng.integers(-90, 60, 2)).tolist()), *numbers)
        scores = rng.integers(-128, 128, (200, 4)).astype(np.int8)
        scores[rng.random(200) < 0.3, 2] = 127
        one = Detector(spec, 4)
        expected = [
            (i, heard) for i, row in enumerate(scores) if (heard := one.step([int(v) for v in row])) is not None
        ]
        assert decisions(scores, spec) == expected
        total += len(expected)
    assert total > 300


def test_trial_counts_right_answers() -> None:
    scores = np.full((4, 12, 4), -128, np.int8)
    scores[1:3, 4:, 3] = 127
    detector = DetectorSpec((600, 600), average_count=3, settle_frames=0)
    assert judge_trial(Trial(scores, np.array([0, 1, 3, 2])), detector) == 2


def test_run_folder_is_complete(finished: Path) -> None:
    artifact = ModelArtifact.load(finished)
    assert (
        artifact.results["qat"]["bits"] == 8 and artifact.results["parameters"] == 16652 and not artifact.is_smoke_test
    )
    for name in (
        "float.pt",
        "qat.pt",
        "model.onnx",
        "vectors.npz",
        "curves_float.png",
        "curves_qat.json",
        "confusion.png",
        "clips.txt.gz",
    ):
        assert (finished / name).stat().st_size > 100, name
    assert not list(finished.glob(".*")) and not (finished / "training.pt").exists()
    assert str(finished) not in (finished / "artifact.json").read_text()
    with np.load(finished / "vectors.npz") as found:
        assert found["pcm"].dtype == np.int16 and found["features"].shape[1:] == (49, 40)
        assert {"layer:conv_q", "layer:logits_q", "logits", "labels", "names"} <= set(found.files)
        graph = read_onnx((finished / "model.onnx").read_bytes())
        logits = run_batch(graph, found["features"][..., None])
        assert (logits.argmax(1) == found["layer:logits_q"].argmax(1)).mean() > 0.98


def test_evaluation_counts_every_clip(finished: Path) -> None:
    found = json.loads((finished / "evaluation.json").read_text())
    assert set(found["engines"]) == {"float", "fake-quant", "int8"}
    trained = ModelArtifact.load(finished).results["counts"]["train"]
    for splits in found["engines"].values():
        assert list(splits) == ["train_reset", "validation_reset", "validation_stream", "test_reset", "test_stream"]
        assert splits["train_reset"]["n"] == trained
        for result in splits.values():
            assert result["n"] == sum(result["per_class_n"]) == np.sum(result["confusion"])
            assert result["accuracy"] == pytest.approx(100 * np.trace(result["confusion"]) / result["n"], abs=0.006)
    change = found["float_to_int8"]
    after = found["engines"]["int8"]["test_reset"]["accuracy"] - found["engines"]["float"]["test_reset"]["accuracy"]
    assert change["net_loss_points"] == pytest.approx(-after, abs=0.02)


def test_other_recordings_leave_the_artifact_alone(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (finished / "artifact.json").read_bytes()
    other = trainer_corpus.make(tmp_path / "other", speakers=44)
    with Progress(disable=True) as progress:
        result = evaluate.evaluate_run(finished, runs.Source(str(other)), progress)
    assert not result["smoke_test"] and (finished / "artifact.json").read_bytes() == before
    assert json.loads((finished / "evaluation_other.json").read_text()) == json.loads(json.dumps(result))


def test_damaged_cache_is_made_anew(corpus: Path, tmp_path: Path) -> None:
    chosen = select(corpus, SPEC)
    with Progress(disable=True) as progress:
        first = load_split(chosen, "test", tmp_path, progress)
        (file,) = tmp_path.iterdir()
        whole = file.read_bytes()
        for damaged in (whole[:1000], b"", whole[:-30], b"PK\x03\x04" + bytes(100)):
            file.write_bytes(damaged)
            assert np.array_equal(load_split(chosen, "test", tmp_path, progress).features, first.features)
            assert file.read_bytes() == whole


def test_smoke_test_is_never_called_an_accuracy(finished: Path) -> None:
    artifact = ModelArtifact.load(finished)
    result = json.loads((finished / "evaluation.json").read_text())
    for synthetic, data in ((True, "synthetic"), (False, artifact.data)):
        console = Console(record=True, width=160, file=io.StringIO())
        evaluate.show(artifact, {**result, "smoke_test": synthetic}, console)
        evaluate.show_runs(replace(artifact, data=data), [artifact, artifact], console)
        said = console.export_text()
        assert ("smoke test" in said) == synthetic and ("accuracy," in said or "accuracy of" in said) != synthetic


def test_stream_features_begin_as_from_a_reset(sets: tuple[TrainingPool, LabelledClips]) -> None:
    """In a continuous stream only the first clip is heard as from a reset."""
    _, validation = sets
    found = evaluate.continuous_features(validation, SPEC.features)
    same = [bool(np.array_equal(a, b)) for a, b in zip(found, validation.features, strict=True)]
    assert same[np.random.default_rng(0).permutation(len(same))[0]] and sum(same) < len(same) / 2


def test_quantized_training_repeats(
    finished: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again from the same float checkpoint in another folder: the same weights, ranges and detector, which takes the
    place of an older kind."""
    monkeypatch.chdir(tmp_path)
    for name in ("artifact.json", "float.pt"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    old = json.loads((tmp_path / "artifact.json").read_text())
    old["detector"] = {"hop_frames": 2, "average_count": 2, "threshold": 254, "suppress_frames": 50}
    (tmp_path / "artifact.json").write_text(json.dumps(old))
    torch.seed()
    with Progress(disable=True) as progress:
        again = quantize_run(tmp_path, tmp_path, "qat", QuantOptions(), 2, runs.Source(str(corpus)), progress)
    one, other = (train.load_torch(folder / "qat.pt")["state"] for folder in (finished, tmp_path))
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    assert again.detector == ModelArtifact.load(finished).detector


def test_other_bits_are_trained_but_every_width_is_checked(finished: Path, corpus: Path) -> None:
    with Progress(disable=True) as progress, pytest.raises(TrainerError, match="--bits"):
        quantize_run(finished, finished, "qat", QuantOptions(9), 1, runs.Source(str(corpus)), progress)


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", "trainer", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_commands_from_recordings_to_onnx(corpus: Path, tmp_path: Path) -> None:
    done = command("train", "--data", corpus, "--words", "yes,stop", "--out", "run", "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0 and "validation accuracy" in done.stdout and "n = " in done.stdout, done.stderr
    for step in (
        ("qat", "run", "--epochs", 1),
        ("export", "run"),
        ("evaluate", "run"),
        ("select", "run", "--out", "best"),
    ):
        done = command(*step, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "kept by validation: seed 0" in done.stdout
    assert (tmp_path / "best" / "model.onnx").read_bytes() == (tmp_path / "run" / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("train", "--data", "nowhere", "--out", "run"), "no such data folder"),
        (("train", "--data", "CORPUS", "--words", "banana", "--out", "run"), "no clips of the word 'banana'"),
        (("train", "--data", "CORPUS", "--words", "yes,yes", "--out", "run"), "must differ"),
        (("train", "--data", "CORPUS", "--words", ",", "--out", "run"), "at least one word"),
        (("train", "--data", "CORPUS", "--words", "yes", "--model", "vgg", "--out", "run"), "tinyconv_stream, dscnn"),
        (("train", "--data", "speech_commands", "--out", "run"), "trainer download"),
        (("train", "--data", "BROKEN", "--words", "yes,stop", "--out", "run"), "broken_nohash_0.wav"),
        (("qat", "nowhere"), "no artifact.json"),
        (("export", "nowhere"), "no artifact.json"),
        (("synthesize", "--out", "CORPUS"), "not a synthetic corpus"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], expected: str, corpus: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    if "BROKEN" in arguments:
        trainer_corpus.make(broken)
        (broken / "yes" / "broken_nohash_0.wav").write_bytes(b"RIFF\x00\x00")
    places = {"CORPUS": str(corpus), "BROKEN": str(broken)}
    done = command(*(places.get(a, a) for a in arguments), cwd=tmp_path)
    said = [
        line for line in done.stderr.splitlines() if line.strip() and "-:--:--" not in line and "━" not in line
    ]  # less progress bars
    assert done.returncode == 1 and len(said) == 1 and expected in said[0], done.stderr
    assert not (tmp_path / "run" / "artifact.json").exists()


def test_damaged_checkpoints_say_so(finished: Path, tmp_path: Path) -> None:
    artifact = replace(ModelArtifact.load(finished), path=tmp_path)
    with pytest.raises(TrainerError, match="not there yet"):
        runs.load_quant(artifact)
    (tmp_path / "qat.pt").write_bytes((finished / "qat.pt").read_bytes()[:3000])
    with pytest.raises(TrainerError, match="not a checkpoint"):
        runs.load_quant(artifact)
    (tmp_path / "float.pt").write_bytes((finished / "float.pt").read_bytes())
    other = replace(artifact, spec=KwsSpec.of_words(["yes", "go"]))
    with pytest.raises(TrainerError, match="made for spec"):
        runs.load_float(other)


def test_clip_of_8_khz_is_refused(corpus: Path, tmp_path: Path) -> None:
    folder = trainer_corpus.make(tmp_path / "c", speakers=40)
    victim = next(iter((folder / "yes").iterdir()))
    write_wav(victim, np.zeros(8000, np.int16), 8000)
    with Progress(disable=True) as progress, pytest.raises(TrainerError, match="8000 Hz"):
        training_pool(select(folder, SPEC), SMALL.augment, tmp_path / "cache", progress)
        load_split(select(folder, SPEC), "validation", tmp_path / "cache", progress)
        load_split(select(folder, SPEC), "test", tmp_path / "cache", progress)
