"""Clips of PCM to the int8 features of the network, from a reset or from a warmed-up front end; continuous streams for
evaluation.

The front end has memory (noise estimate and gain), and a board never resets it while it listens. A warm-up is PCM heard
before the clip: its frames are dropped, what it left in the state stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from converter.arrays import Float64, Int8, Int16
from converter.audio.frontend import MicroFrontend, quantize_features
from converter.spec import FeatureSpec, SpecError


def clip_features(
    clips: Int16,
    spec: FeatureSpec | None = None,
    warm_up: Sequence[Int16 | None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Int8:
    """int8 [n, frames, channels] of clips int16 [n, clip_samples]; warm_up[i] (None: start from a reset) is heard
    before clip i.

    A warm-up's length must be a whole number of steps, so that frame 0 begins at the clip's first sample.
    progress is called with the number of clips done. About 2,500 clips per second on one core.
    """
    spec = spec or FeatureSpec()
    if clips.dtype != np.int16 or clips.ndim != 2 or clips.shape[1] != spec.clip_samples:
        raise SpecError(
            f"clip_features: clips must be int16 [n, {spec.clip_samples}], got {clips.dtype} {list(clips.shape)}"
        )
    if warm_up is not None and len(warm_up) != len(clips):
        raise SpecError(f"clip_features: one warm-up (or None) per clip, got {len(warm_up)} for {len(clips)} clips")
    front_end = MicroFrontend(spec)
    features = np.empty((len(clips), spec.frames, spec.channels), np.int8)
    for index, clip in enumerate(clips):
        before = warm_up[index] if warm_up is not None else None
        front_end.reset()
        if before is not None and len(before):
            features[index] = _after(front_end, before, clip)
        else:
            features[index] = front_end.features(clip)
        if progress is not None and index % 64 == 63:
            progress(index + 1)
    return features


def _after(front_end: MicroFrontend, before: Int16, clip: Int16) -> Int8:
    spec = front_end.spec
    if len(before) % spec.step_samples:
        raise SpecError(
            f"clip_features: a warm-up must be a multiple of {spec.step_samples} samples long, got {len(before)}"
        )
    raw = front_end.process(np.concatenate([before, clip]))
    return quantize_features(raw[len(before) // spec.step_samples :], spec)


def random_warm_ups(
    count: int,
    rng: np.random.Generator,
    backgrounds: Sequence[Int16] = (),
    speech: Int16 | None = None,
    spec: FeatureSpec | None = None,
    reset_share: float = 0.15,
    max_ms: int = 3000,
) -> list[Int16 | None]:
    """What was heard before each of `count` clips: nothing (reset_share of them), background noise, speech over noise,
    or hiss.

    backgrounds are long int16 recordings, speech is int16 [m, clip_samples] (training clips only). The noise level is
    drawn from -50 to 0 dB of the recording as it is; lengths are whole steps, from one step to max_ms.
    """
    spec = spec or FeatureSpec()
    steps = max(1, max_ms // spec.step_ms)
    found: list[Int16 | None] = []
    for _ in range(count):
        if rng.random() < reset_share:
            found.append(None)
            continue
        length = int(rng.integers(1, steps + 1)) * spec.step_samples
        heard = _background(length, rng, backgrounds) * 10.0 ** (rng.uniform(-50, 0) / 20)
        if speech is not None and len(speech) and rng.random() < 0.5:
            said = speech[int(rng.integers(len(speech)))][-length:].astype(np.float64)
            heard[-len(said) :] += said
        found.append(np.clip(np.rint(heard), -32768, 32767).astype(np.int16))
    return found


def _background(length: int, rng: np.random.Generator, backgrounds: Sequence[Int16]) -> Float64:
    usable = [one for one in backgrounds if len(one) >= length]
    if not usable:
        return rng.normal(0.0, 1000.0, length)
    chosen = usable[int(rng.integers(len(usable)))]
    start = int(rng.integers(0, len(chosen) - length + 1))
    return chosen[start : start + length].astype(np.float64)


def stream_features(pcm: Int16, spec: FeatureSpec | None = None) -> Int8:
    """int8 [m, channels]: every frame of one continuous recording, as a board hears it from its start."""
    return MicroFrontend(spec).features(pcm)


def stream_windows(features: Int8, spec: FeatureSpec | None = None, hop_frames: int = 1) -> Int8:
    """int8 view [k, frames, channels]: the network's input after each hop; window k ends with frame frames - 1 + k *
    hop_frames.

    >>> stream_windows(np.zeros((60, 40), np.int8), hop_frames=2).shape
    (6, 49, 40)
    """
    spec = spec or FeatureSpec()
    if len(features) < spec.frames:
        return np.empty((0, spec.frames, spec.channels), np.int8)
    windows = np.lib.stride_tricks.sliding_window_view(features, spec.frames, axis=0)
    return windows.transpose(0, 2, 1)[::hop_frames]
