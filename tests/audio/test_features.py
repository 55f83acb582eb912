"""Batches of clips: every clip as if it were heard alone from a reset, or at the end of what was heard before it."""

from __future__ import annotations

import numpy as np
import pytest
from frontend.signals import golden_pcm, whole

from converter.arrays import Int16
from converter.audio.frontend import MicroFrontend
from converter.spec import FeatureSpec, SpecError
from trainer.data.features import clip_features, random_warm_ups, stream_features, stream_windows

SPEC = FeatureSpec()


def clips(count: int = 5) -> Int16:
    rng = np.random.default_rng(3)
    return np.stack([whole(rng.normal(size=16000) * level) for level in np.geomspace(3, 12000, count)])


def test_clips_start_from_a_reset() -> None:
    pcm = clips()
    found = clip_features(pcm)
    assert found.shape == (5, 49, 40) and found.dtype == np.int8
    for index, clip in enumerate(pcm):
        assert found[index].tolist() == MicroFrontend().features(clip).tolist()
    assert clip_features(pcm[::-1])[::-1].tolist() == found.tolist()


def test_a_warm_up_leaves_its_state_and_no_frames() -> None:
    pcm, before = clips(), golden_pcm(320 * 41)
    found = clip_features(pcm, warm_up=[before, None, before[:320], before[:0], before])
    cold = clip_features(pcm)
    stream = stream_features(np.concatenate([before, pcm[0]]))
    assert len(stream) == 41 + 49 and found[0].tolist() == stream[41:].tolist() != cold[0].tolist()
    assert found[2].tolist() == stream_features(np.concatenate([before[:320], pcm[2]]))[1:].tolist()
    for index in (1, 3):
        assert found[index].tolist() == cold[index].tolist()


def test_random_warm_ups_fit_and_reproduce() -> None:
    noise, speech = [whole(np.random.default_rng(1).normal(size=160000) * 3000)], clips()
    drawn = random_warm_ups(200, np.random.default_rng(5), noise, speech)
    again = random_warm_ups(200, np.random.default_rng(5), noise, speech)
    heard = [one for one in drawn if one is not None]
    assert 140 < len(heard) < 198
    assert all(one.dtype == np.int16 and 320 <= len(one) <= 48000 and len(one) % 320 == 0 for one in heard)
    assert [None if one is None else one.tobytes() for one in drawn] == [
        None if one is None else one.tobytes() for one in again
    ]
    levels = [float(np.abs(one.astype(float)).mean()) for one in heard]
    assert min(levels) < 30 and max(levels) > 1500
    assert clip_features(np.resize(clips(), (200, 16000)), warm_up=drawn).shape == (200, 49, 40)
    assert all(one is not None and len(one) for one in random_warm_ups(20, np.random.default_rng(6), reset_share=0.0))


def test_windows_of_a_stream() -> None:
    features = stream_features(golden_pcm())
    windows = stream_windows(features, hop_frames=3)
    assert len(windows) == 1 + (len(features) - 49) // 3
    for index, window in enumerate(windows):
        assert np.array_equal(window, features[3 * index : 3 * index + 49])
    assert stream_windows(features[:48]).shape == (0, 49, 40)


def test_progress_is_told() -> None:
    told: list[int] = []
    clip_features(np.zeros((130, 16000), np.int16), progress=told.append)
    assert told == [64, 128]


def test_wrong_shapes_are_refused_in_one_sentence() -> None:
    pcm = clips(2)
    with pytest.raises(SpecError, match="clips must be int16"):
        clip_features(pcm[:, :15000])
    with pytest.raises(SpecError, match="clips must be int16"):
        clip_features(pcm.astype(np.float32))
    with pytest.raises(SpecError, match="one warm-up"):
        clip_features(pcm, warm_up=[None])
    with pytest.raises(SpecError, match="multiple of 320"):
        clip_features(pcm, warm_up=[pcm[0][:500], None])
