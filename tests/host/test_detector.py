"""The detector three times over: firmware C, the host's twin, and the trainer's batch form, on the same random
outputs."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from converter.arrays import Int8
from converter.run_folder import ArtifactError, ModelArtifact
from converter.spec import MAX_FRAMES, MAX_WORDS, DetectorSpec, KwsSpec, SpecError
from host.link.detector import Detector

ROOT = Path(__file__).resolve().parents[2]
LABELS_MAX = 32


class CSpec(ctypes.Structure):
    _fields_ = [
        ("labels", ctypes.c_uint8),
        ("hop_frames", ctypes.c_uint8),
        ("average_count", ctypes.c_uint8),
        ("suppress_frames", ctypes.c_uint16),
        ("settle_frames", ctypes.c_uint16),
        ("thresholds", ctypes.POINTER(ctypes.c_int16)),
    ]


class CDetector(ctypes.Structure):
    _fields_ = [
        ("spec", CSpec),
        ("evidence", ctypes.c_void_p),
        ("sums", ctypes.c_int32 * MAX_WORDS),
        ("disarmed", ctypes.c_uint32),
        ("frames", ctypes.c_uint32),
        ("frames_since", ctypes.c_uint32),
        ("next", ctypes.c_uint32),
        ("guard", ctypes.c_uint8 * 16),
    ]


class OnC:
    """A C detector with guard bytes behind it and behind what it was lent; step() as the twin's."""

    def __init__(self, library: ctypes.CDLL, spec: DetectorSpec, labels: int, outputs: int = 0) -> None:
        self.library, self.state, self.thresholds = library, CDetector(), (ctypes.c_int16 * 30)(*spec.thresholds)
        self.size = 2 * spec.average_count * (labels - 2)
        self.lent = ctypes.create_string_buffer(b"\xa5" * (self.size + 16), self.size + 16)
        self.state.guard[:] = [0xA5] * 16
        numbers = (outputs or labels, spec.hop_frames, spec.average_count, spec.suppress_frames, spec.settle_frames)
        assert library.detector_reset(
            ctypes.byref(self.state), ctypes.byref(CSpec(*numbers, self.thresholds)), self.lent
        )

    def step(self, output: list[int]) -> int | None:
        label = self.library.detector_step(ctypes.byref(self.state), (ctypes.c_int8 * len(output))(*output))
        assert bytes(self.state.guard) == b"\xa5" * 16 and self.lent.raw[self.size :] == b"\xa5" * 16
        return None if label < 0 else int(label)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the detector with")
    out = tmp_path_factory.mktemp("detector") / "detector.so"
    source = ROOT / "firmware" / "lib" / "detector" / "detector.c"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(out)], check=True)
    return ctypes.CDLL(str(out))


def three(library: ctypes.CDLL, spec: DetectorSpec, outputs: Int8) -> list[int | None]:
    """What all three say, which is the same; the sums of C and of the twin are too."""
    from trainer.run.detector_tuning import decisions, evidence_sums

    labels = outputs.shape[1]
    twin, c = Detector(spec, labels), OnC(library, spec, labels)
    sums = evidence_sums(outputs, spec.average_count)
    found = []
    for row, expected in zip(outputs.tolist(), sums.tolist(), strict=True):
        found.append(twin.step(row))
        assert c.step(row) == found[-1]
        assert twin.sums == expected == list(c.state.sums[: labels - 2])
    assert decisions(outputs, spec) == [(index, label) for index, label in enumerate(found) if label is not None]
    return found


def random_outputs(rng: np.random.Generator, labels: int) -> Int8:
    """Stretches in which one label dominates, saturated and equal outputs among them."""
    rows = rng.integers(-128, 128, (400, labels)) if rng.random() < 0.5 else rng.integers(-10, 11, (400, labels))
    for start in range(0, 400, 25):
        leader = int(rng.integers(0, labels))
        rows[start : start + int(rng.integers(3, 25)), leader] = int(rng.integers(60, 128))
    rows[100:120] = -128
    rows[200:220] = 127
    rows[300:320, :2] = 127
    rows[330:350, 2:] = 127
    rows[350:370] = -128
    rows[350:370, labels - 1] = 127
    return rows.astype(np.int8)


@pytest.mark.parametrize("seed", range(60))
def test_c_equals_host_equals_trainer(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = int(rng.integers(3, LABELS_MAX + 1)) if seed % 3 else 4
    count = [1, 64, int(rng.integers(2, 9)), int(rng.integers(1, 65))][seed % 4]
    highest = 255 * count
    mean = [rng.integers(-255, 256, labels - 2), rng.integers(-20, 20, labels - 2), rng.integers(0, 200, labels - 2)]
    thresholds = rng.choice([*(count * mean[seed % 3]), -highest, highest, 0], labels - 2)
    spec = DetectorSpec(
        tuple(thresholds.tolist()),
        int(rng.choice([1, 2, 5, 50])),
        count,
        int(rng.choice([0, 1, 2, 25, MAX_FRAMES])),
        int(rng.choice([0, 1, 2, 75, 300])),
    )
    three(library, spec, random_outputs(rng, labels))


@pytest.mark.parametrize("seed", range(10))
def test_one_output_is_the_probability_of_the_one_word(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = DetectorSpec((int(rng.integers(0, 1275)),), 3, 5, int(rng.choice([0, 3, 100])), int(rng.choice([0, 30])))
    twin, c, heard = Detector(spec, 3), OnC(library, spec, 3, outputs=1), 0
    for value in random_outputs(rng, 3)[:, 2].tolist():
        label = twin.step([value])
        assert c.step([value]) == label and twin.sums == [c.state.sums[0]]
        assert 0 <= twin.sums[0] <= spec.highest_sum
        heard += label == 2
    assert heard


def test_some_words_are_heard_and_some_suppressed(library: ctypes.CDLL) -> None:
    """The random test above would be empty if nothing ever was heard."""
    outputs = random_outputs(np.random.default_rng(0), 4)
    free, resting = (three(library, DetectorSpec((0, 0), 2, 4, rest, 0), outputs) for rest in (0, 150))
    assert sum(word is not None for word in free) > 2 * sum(word is not None for word in resting) > 0


def test_an_utterance_is_one_hit(library: ctypes.CDLL) -> None:
    """A word held over its threshold is heard once, and again when its sum has been below; another word is not held
    back, once the rest is over, and one that was crowded out is heard then."""
    yes, stop, nothing = [-128, -128, 127, -128], [-128, -128, -128, 127], [127, -128, -128, -128]
    outputs = np.array([yes] * 30 + [nothing] * 2 + [yes] * 3 + [stop] * 3, np.int8)
    found = three(library, DetectorSpec((255, 255), 1, 1, 0, 0), outputs)
    assert [(at, word) for at, word in enumerate(found) if word] == [(0, 2), (32, 2), (35, 3)]
    found = three(library, DetectorSpec((255, 255), 1, 1, 4, 0), outputs)
    assert [(at, word) for at, word in enumerate(found) if word] == [(0, 2), (32, 2), (37, 3)]


def test_settling_and_early_sums(library: ctypes.CDLL) -> None:
    """Missing inferences count 0; a word that is over its threshold when the settling ends is heard at once."""
    loud = np.array([[-128, -128, 127]] * 12, np.int8)
    assert three(library, DetectorSpec((1020,), 2, 4, 0, 0), loud) == [None, None, None, 2, *[None] * 8]
    assert three(library, DetectorSpec((1020,), 2, 4, 0, 12), loud) == [*[None] * 6, 2, *[None] * 5]
    assert three(library, DetectorSpec((1020,), 2, 4, 0, 13), loud) == [*[None] * 6, 2, *[None] * 5]
    assert three(library, DetectorSpec((-5,), 2, 4, 0, 13), np.zeros((8, 3), np.int8))[6:] == [2, None]


def test_ties_and_larger_sums(library: ctypes.CDLL) -> None:
    """Of equal sums the first label; else the larger, whatever the thresholds."""
    tie = np.array([[-128, -128, 50, 50]] * 2, np.int8)
    assert three(library, DetectorSpec((0, 0), 1, 1, 0, 0), tie) == [2, 3]
    larger = np.array([[-128, -128, 40, 50]], np.int8)
    assert three(library, DetectorSpec((-255, 10), 1, 1, 0, 0), larger) == [3]
    assert three(library, DetectorSpec((-255, 11), 1, 1, 0, 0), larger) == [2]
    assert three(library, DetectorSpec((1,), 1, 1, 0, 0), np.array([[100, -128, 100]], np.int8)) == [None]


def test_long_rests_outlast_the_counters(library: ctypes.CDLL) -> None:
    """uint16 rests in frames: the longest are waited for to the end, and nothing wraps behind them."""
    outputs = np.full((8000, 3), -128, np.int8)
    outputs[::2, 2] = 127
    found = three(library, DetectorSpec((255,), 50, 1, MAX_FRAMES, MAX_FRAMES), outputs)
    assert [at for at, word in enumerate(found) if word] == [1310, 2622, 3934, 5246, 6558, 7870]


def test_thresholds_may_change_between_steps(library: ctypes.CDLL) -> None:
    """Lent thresholds are read anew at each step, as `detector T..%` relies on."""
    c = OnC(library, DetectorSpec((100,), 1, 1, 0, 0), 3)
    assert c.step([0, 0, 50]) is None
    c.thresholds[0] = 50
    assert [c.step([0, 0, 50]) for _ in range(2)] == [2, None]


@pytest.mark.parametrize("numbers", [(33, 2, 8), (255, 2, 8), (2, 2, 8), (0, 2, 8), (4, 2, 0), (4, 2, 65)])
def test_what_the_detector_has_no_room_for_is_refused(library: ctypes.CDLL, numbers: tuple[int, int, int]) -> None:
    """No number lent is touched, at the reset or after it."""
    state, thresholds = CDetector(), (ctypes.c_int16 * 30)()
    state.guard[:] = [0xA5] * 16
    lent = ctypes.create_string_buffer(b"\xa5" * 64, 64)
    spec = CSpec(*numbers, 0, 0, thresholds)
    assert library.detector_reset(ctypes.byref(state), ctypes.byref(spec), lent) == 0
    assert library.detector_step(ctypes.byref(state), (ctypes.c_int8 * 255)(*[127] * 255)) == -1
    assert lent.raw == b"\xa5" * 64 and bytes(state.guard) == b"\xa5" * 16


def test_wrong_number_of_outputs_or_thresholds_is_refused() -> None:
    with pytest.raises(ValueError, match="4 outputs wanted, got 3"):
        Detector(DetectorSpec.untuned(2), 4).step([0, 0, 0])
    with pytest.raises(ValueError, match="4 labels want 2 thresholds"):
        Detector(DetectorSpec.untuned(1), 4)


@pytest.mark.parametrize(
    "fields",
    [
        {"thresholds": ()},
        {"thresholds": (0,) * 31},
        {"thresholds": (2041, 0)},
        {"thresholds": (-2041, 0)},
        {"thresholds": (256, 0), "average_count": 1},
        {"hop_frames": 0},
        {"average_count": 65},
        {"suppress_frames": -1},
        {"settle_frames": MAX_FRAMES + 1},
        {"rates": ((0.5, (1,)),)},
        {"rates": ((0.5, (1, 2)), (0.5004, (1, 2)))},
        {"rates": ((1.0, (1, 2)), (0.5, (1, 2)))},
        {"rates": ((-1.0, (1, 2)),)},
        {"rates": ((0.5, (1, 2041)),)},
    ],
)
def test_specs_out_of_range(fields: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="DetectorSpec"):
        DetectorSpec(**{"thresholds": (0, 0), **fields})  # type: ignore[arg-type]


def test_a_detector_in_json(tmp_path: Path) -> None:
    """It comes back equal; an older one, or another number of words, is refused with the command that mends it."""
    spec = DetectorSpec((120, -140), rates=((0.5, (300, 310)), (2.0, (100, 90))))
    assert DetectorSpec.from_json(json.loads(json.dumps(asdict(spec)))) == spec
    for bad in ({"hop_frames": 2}, {"thresholds": [1.5]}, {"thresholds": ["1"]}, {"thresholds": [1], "old": 2}):
        with pytest.raises(SpecError, match="DetectorSpec"):
            DetectorSpec.from_json(bad)
    artifact = ModelArtifact(tmp_path, KwsSpec.of_words(["yes", "stop"]), spec, "tinyconv", "synthetic").save()
    assert ModelArtifact.load(tmp_path) == artifact
    text = (tmp_path / "artifact.json").read_text()
    raw = json.loads(text)
    raw["detector"] = {"hop_frames": 2, "average_count": 2, "threshold": 254, "suppress_frames": 50}
    (tmp_path / "artifact.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=f"python -m trainer qat {tmp_path}"):
        ModelArtifact.load(tmp_path)
    assert ModelArtifact.load(tmp_path, older_detector=True).detector == DetectorSpec.untuned(2)
    raw["detector"] = {"thresholds": [1]}
    (tmp_path / "artifact.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="1 thresholds for 2 words"):
        ModelArtifact.load(tmp_path)
