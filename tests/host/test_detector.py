"""The detector three times over: firmware C, the host's twin, and the trainer's batch form, on the same random
scores."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from converter.arrays import Int8
from converter.spec import DetectorSpec
from host.link.detector import Detector

ROOT = Path(__file__).resolve().parents[2]
LABELS_MAX = 32


class CSpec(ctypes.Structure):
    _fields_ = [
        ("labels", ctypes.c_uint8),
        ("hop_frames", ctypes.c_uint8),
        ("average_count", ctypes.c_uint8),
        ("threshold", ctypes.c_uint8),
        ("suppress_frames", ctypes.c_uint32),
    ]


class CDetector(ctypes.Structure):
    _fields_ = [
        ("spec", CSpec),
        ("scores", ctypes.c_void_p),
        ("sums", ctypes.c_uint32 * LABELS_MAX),
        ("next", ctypes.c_uint8),
        ("heard_before", ctypes.c_uint8),
        ("frames_since", ctypes.c_uint32),
        ("guard", ctypes.c_uint8 * 16),
    ]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the detector with")
    out = tmp_path_factory.mktemp("detector") / "detector.so"
    source = ROOT / "firmware" / "lib" / "detector" / "detector.c"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", str(source), "-o", str(out)], check=True
    )
    return ctypes.CDLL(str(out))


def c_words(library: ctypes.CDLL, spec: DetectorSpec, scores: Int8) -> list[int | None]:
    detector = CDetector()
    detector.guard[:] = [0xA5] * 16
    c_spec = CSpec(scores.shape[1], spec.hop_frames, spec.average_count, spec.threshold, spec.suppress_frames)
    size = spec.average_count * scores.shape[1]
    lent = ctypes.create_string_buffer(b"\xa5" * (size + 16), size + 16)
    library.detector_reset(ctypes.byref(detector), ctypes.byref(c_spec), lent)
    found = []
    for row in scores:
        label = library.detector_step(ctypes.byref(detector), (ctypes.c_int8 * len(row))(*row.tolist()))
        found.append(None if label < 0 else label)
    assert bytes(detector.guard) == b"\xa5" * 16  # it lies right behind the C struct
    assert lent.raw[size:] == b"\xa5" * 16
    return found


def random_scores(rng: np.random.Generator, labels: int) -> Int8:
    """Stretches in which one label dominates, saturated and equal scores among them."""
    rows = rng.integers(-128, 128, (400, labels))
    for start in range(0, 400, 25):
        leader = int(rng.integers(0, labels))
        rows[start : start + int(rng.integers(3, 25)), leader] = int(rng.integers(60, 128))
    rows[100:120] = -128
    rows[200:220] = 127
    rows[300:320, :2] = 127
    return rows.astype(np.int8)


@pytest.mark.parametrize("seed", range(40))
def test_c_equals_host_equals_trainer(library: ctypes.CDLL, seed: int) -> None:
    from trainer.run.detector_tuning import decisions

    rng = np.random.default_rng(seed)
    spec = DetectorSpec(
        int(rng.integers(1, 51)),
        int(rng.integers(1, 65) if seed % 2 else rng.integers(1, 9)),
        int(rng.choice([0, 60, 100, 127, 180, 255])),
        int(rng.choice([0, 1, 2, 50, 4_000_000_000])),
    )
    scores = random_scores(rng, int(rng.integers(3, LABELS_MAX + 1)) if seed % 3 else 4)
    twin = Detector(spec, scores.shape[1])
    host = [twin.step(row.tolist()) for row in scores]
    assert c_words(library, spec, scores) == host
    assert decisions(scores, spec) == [(index, label) for index, label in enumerate(host) if label is not None]


def test_some_words_are_heard_and_some_suppressed(library: ctypes.CDLL) -> None:
    """The random test above would be empty if nothing ever was heard."""
    scores = random_scores(np.random.default_rng(0), 4)
    free, resting = (c_words(library, DetectorSpec(2, 4, 100, suppress), scores) for suppress in (0, 50))
    assert sum(word is not None for word in free) > 3 * sum(word is not None for word in resting) > 0


def test_words_lose_ties_and_early_counts_are_low(library: ctypes.CDLL) -> None:
    spec = DetectorSpec(hop_frames=2, average_count=4, threshold=100, suppress_frames=0)
    tie = np.array([[100, -128, 100]] * 6, np.int8)
    assert c_words(library, spec, tie) == [None] * 6
    rising = np.array([[-128, -128, 127]] * 4, np.int8)
    assert c_words(library, spec, rising) == [None, 2, 2, 2]


def test_wrong_number_of_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="4 scores wanted, got 3"):
        Detector(DetectorSpec(), 4).step([0, 0, 0])
