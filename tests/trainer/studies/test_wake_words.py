"""Public wake words: their own words by synthetic voices, other engines, and the study."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import soundfile
from host_cli import sound
from rich.progress import Progress
from typer.testing import CliRunner

from converter.arrays import Int16, Uint16
from converter.audio.frontend import MicroFrontend
from converter.tflite.interpreters import installed
from host.link.expected import REFERENCE
from trainer.__main__ import app
from trainer.data.synthetic_speech import ENGLISH, say
from trainer.errors import TrainerError
from trainer.studies import wake_words
from trainer.studies.wake_words import FEATURES, NAMES, WakeWord, decisions, load_wake_words, probabilities, study

PHRASES = {name: name.replace("_", " ") for name in NAMES}
SILENCE = np.zeros(16000, np.int16)
VOICES = 12
LOGIT_SCALES = {"alexa": 0.1895558, "hey_jarvis": 0.1789552, "hey_mycroft": 0.2218573, "okay_nabu": 0.0947403}
QUIET = Progress(disable=True)
package = pytest.mark.skipif(
    installed(wake_words.PACKAGE) != wake_words.VERSION, reason="the extra wakewords is not installed"
)


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"the program {program} is not installed")


def spoken(engine: str, phrase: str, voices: int) -> list[Int16]:
    """The phrase by so many random voices, between silences."""
    rng = np.random.default_rng(0)
    return [np.concatenate([SILENCE, say(engine, phrase, ENGLISH, rng), SILENCE]) for _ in range(voices)]


def recorded(name: str) -> tuple[WakeWord, Uint16, Int16]:
    """The model, raw features and the PCM of its phrase by some voices, then of loud sounds."""
    pcm = np.concatenate([*spoken("espeak-ng", PHRASES[name], VOICES // 2), sound(6, 1)])
    raw = MicroFrontend(FEATURES).process(pcm)
    assert 300 < raw.max() <= 666  # up to there the package's int8 does not wrap round
    return next(word for word in load_wake_words() if word.name == name), raw, pcm


@package
@pytest.mark.parametrize(
    ("engine", "names"),
    [("espeak-ng", ("alexa", "hey_mycroft", "okay_nabu")), ("flite", NAMES)],
    ids=["espeak", "flite"],
)
def test_each_model_hears_its_own_word_and_no_other(engine: str, names: tuple[str, ...]) -> None:
    needs(engine)
    words = load_wake_words()
    for name in names:
        heard = dict.fromkeys(NAMES, 0)
        for pcm in spoken(engine, PHRASES[name], VOICES):
            raw = MicroFrontend(FEATURES).process(pcm)
            for word in words:
                heard[word.name] += bool(decisions(word, probabilities(word, raw)))
        assert heard.pop(name) >= VOICES // 3 and not any(heard.values()), (name, heard)


@package
@pytest.mark.parametrize("name", NAMES)
def test_equal_to_the_reference_kernels_of_tensorflow_lite(name: str) -> None:
    needs("espeak-ng")
    interpreter = pytest.importorskip("tflite_runtime.interpreter", reason="tflite-runtime is for Python 3.10 and 3.11")
    word, raw = recorded(name)[:2]
    reference = interpreter.OpResolverType.BUILTIN_REF
    other = interpreter.Interpreter(model_content=word.model, experimental_op_resolver_type=reference)
    other.allocate_tensors()
    (taken,), (given,) = other.get_input_details(), other.get_output_details()
    scale, zero_point = taken["quantization"]
    assert given["quantization"] == (1 / 256, 0)
    found = []
    for start in range(0, len(raw) - 2, 3):
        frames = np.round(raw[start : start + 3] * wake_words.REAL_PER_RAW / scale + zero_point).astype(np.int8)
        other.set_tensor(taken["index"], frames[None])
        other.invoke()
        found.append(int(other.get_tensor(given["index"])[0, 0]))
    outputs = probabilities(word, raw)
    assert outputs.max() > 128 and outputs.tolist() == found


@package
@pytest.mark.parametrize("name", NAMES)
def test_the_packages_own_engine(name: str) -> None:
    """Its front end is equal to the last bit, and so is its decision; its TensorFlow Lite rounds otherwise, and ends a
    few steps of the int8 logit beside TensorFlow Lite Micro."""
    needs("espeak-ng")
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    word, raw, pcm = recorded(name)
    frames = list(MicroWakeWordFeatures().process_streaming(pcm.tobytes()))
    assert np.array_equal(np.concatenate(frames).reshape(-1, 40), raw * np.float64(wake_words.REAL_PER_RAW))
    engine, single = (MicroWakeWord.from_builtin(Model(name)) for _ in range(2))
    detected = [engine.process_streaming(frame) for frame in frames][2::3]
    single._probabilities, single.sliding_window_size = deque(maxlen=1), 1
    theirs = np.array([256 * (single.process_streaming_prob(frame) or 0.0) for frame in frames][2::3]).astype(np.int16)
    rising = [at for at, now in enumerate(detected) if now and not detected[at - 1]]
    assert decisions(word, theirs) == rising and (rising or name == "hey_jarvis")  # which seldom hears espeak-ng

    ours = probabilities(word, raw)
    assert len(ours) == len(theirs) and (ours == theirs).mean() > 0.75
    by_logit = np.round(256 / (1 + np.exp(-LOGIT_SCALES[name] * np.arange(-128, 129))))
    low, high = (np.minimum(ours, theirs), np.maximum(ours, theirs))
    steps = np.searchsorted(by_logit, high - 0.5) - np.searchsorted(by_logit, low + 0.5) + 1
    assert steps[ours != theirs].max() <= 4, np.bincount(steps)


@package
def test_counts_are_those_of_the_shapes() -> None:
    alexa = load_wake_words()[0]
    pointwise, depthwise = 32 * 5 * 40 + 64 * 32 + 3 * 64 * 64 + 320, 5 * 32 + (9 + 13 + 21) * 64
    assert alexa.counts == (pointwise + depthwise + 2 * 32 + 7 * 64 + 1, pointwise + depthwise)
    assert alexa.input_frames == 3 and (alexa.cutoff, alexa.window) == (0.9, 5)


@pytest.mark.parametrize(("cutoff", "least"), [(0.9, 1153), (0.97, 1242), (0.95, 1217), (0.85, 1089)])
def test_the_mean_must_lie_above_the_cutoff(cutoff: float, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WakeWord, "input_frames", 3)
    word = WakeWord("word", b"", cutoff, 5)
    assert word.detector.thresholds == (least,)
    below, at = [least - 1 - 4 * 240, *[240] * 4], [least - 4 * 240, *[240] * 4]
    outputs = np.array([*below, 0, *at, 240, 0, 0, *at], np.int16)
    assert decisions(word, outputs) == [10, 18]


# The study


@pytest.fixture
def negatives(tmp_path: Path) -> Path:
    """A folder of recordings in which two voices say alexa."""
    needs("ffmpeg")
    needs("flite")
    (tmp_path / "anna").mkdir()
    soundfile.write(tmp_path / "anna" / "a.wav", np.concatenate([*spoken("flite", "alexa", 2), sound(3)]), 16000)
    return tmp_path / "anna"


def evaluated(folder: Path, hours: float) -> Path:
    """A copy of the reference run, as if it had been evaluated on this source."""
    run = folder / "run"
    shutil.copytree(REFERENCE, run)
    source = {"name": "anna", "hours": hours, "false_accepts": 7, "per_hour": 1234.5, "bound": 2345.6}
    conditions = [{"name": name, "misses": 30, "words": 120} for name in ("clean", "noise 20 dB", "noise 10 dB")]
    shipped = {"false_accepts": 7, "per_hour": 1234.5, "bound": 2345.6}
    found = {"hours": hours, "sources": [source], "conditions": conditions, "shipped": shipped}
    (run / "evaluation.json").write_text(json.dumps({"listening_streams": found}))
    return run


@package
def test_the_table(negatives: Path, tmp_path: Path) -> None:
    hours = len(soundfile.read(negatives / "a.wav")[0]) / 16000 / 3600
    run = evaluated(tmp_path, round(hours, 3))
    arguments = ["study", "wakewords", str(run), "--negative", str(negatives), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "wakewords.md" in done.stdout, done.output
    found = json.loads((tmp_path / "out" / "wakewords.json").read_text())
    assert [row["false_accepts"] for row in found["models"]] == [2, 0, 0, 0, 7]
    alexa = found["models"][0]
    assert alexa["per_hour"] == round(2 / hours, 3) and alexa["bound"] == round(6.295793622 / hours, 3)
    lines = (tmp_path / "out" / "wakewords.md").read_text().splitlines()
    assert "| alexa | 24,481 | 55,856 | 798,933 | mean of 5 over 0.9 | 2 |" in lines[4]
    assert lines[4].endswith("| 2 | not measured: no recordings of these words here |")
    assert lines[8].startswith("| run | 16,652 | 18,720 | 2,320,000 |")
    assert lines[8].endswith(
        "| 7 | 1,234.50 | 2,345.60 | 7 | clean 30 of 120 (25.0 %); noise 10 dB 30 of 120 (25.0 %) |"
    )

    with pytest.raises(TrainerError, match=r"evaluation.json: heard \[\('anna', 9\)\], the wake words .* on the same"):
        study([evaluated(tmp_path / "other", 9)], [negatives], tmp_path, QUIET)
    with pytest.raises(TrainerError, match=r"holds no false accepts; run `python -m trainer evaluate .*reference "):
        study([REFERENCE], [negatives], tmp_path, QUIET)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake_words, "PACKAGE", "pymicro-wakeword-of-nobody")
    with pytest.raises(TrainerError, match=r"2\.5\.0, got not installed; pip install -e '\.\[wakewords\]'"):
        study([], [tmp_path], tmp_path, QUIET)
    assert importlib.metadata.version("pymicro-features")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wakewords"], "study wakewords: needs --negative DIR"),
        (["bits"], "study bits: needs at least one run folder, got none"),
        (["images"], "study images: needs at least one run folder, got none"),
        (["bits", "run", "--negative", "x"], "study bits: plays no negatives; leave --negative out"),
        (["sounds"], "study: must be one of bits, pruning, images, wakewords, course, got sounds"),
    ],
)
def test_what_a_study_needs_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["study", *arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 1 and said in done.stderr and len(done.stderr.splitlines()) <= 2, done.output
