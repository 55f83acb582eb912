"""The rung of the audio front end: our C against TFLM's, clip by clip and as one continuous stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converter.engines import Unavailable
from converter.frontend import WHEEL, WHEEL_VERSION, WheelEngine, load_wheel, quantize_features
from converter.frontend_native import NativeEngine, find_compiler
from converter.verify import Climb, Rung, Tally, feature_spec

GENERATED_SECONDS = 4


def front_end(given: Climb) -> Rung:
    """Raw values from reset for every clip, all clips in one stream, and generated sounds."""
    spec = feature_spec(given)
    library = load_wheel()
    if library is None:
        raise Unavailable(f"the package {WHEEL}=={WHEEL_VERSION} is not installed")
    if find_compiler() is None:
        raise Unavailable("no C compiler (cc, gcc, clang) is installed")
    ours, theirs = NativeEngine(spec), WheelEngine(spec, library)
    recorded: NDArray[np.int16] = given.vectors["pcm"] if given.vectors else np.zeros((0, spec.clip_samples), np.int16)
    streams = [(f"clip {index}", pcm) for index, pcm in enumerate(recorded)]
    if len(recorded):
        streams.append(("all clips in one stream", recorded.reshape(-1)))
    streams += _generated(spec.sample_rate_hz)
    seconds = sum(len(pcm) for _, pcm in streams) / spec.sample_rate_hz
    tally = Tally("", f"streams ({seconds:,.0f} s of audio)")
    names = ("our C", "TFLM's C")
    for where, pcm in streams:
        ours.reset()
        theirs.reset()
        samples = np.ascontiguousarray(pcm)
        tally.compare(f"front end, {where}", names, ours.process(samples), theirs.process(samples))
    if given.vectors:
        theirs.reset()
        first = quantize_features(theirs.process(np.ascontiguousarray(recorded[0])), spec)
        tally.compare("features of clip 0", ("TFLM's C", "vectors.npz"), first, given.vectors["features"][0])
    return tally.rung()


def _generated(rate: int) -> list[tuple[str, NDArray[np.int16]]]:
    rng = np.random.default_rng(20241120)
    count = GENERATED_SECONDS * rate
    sweep = np.sin(np.cumsum(np.linspace(0.01, 3.0, count)))
    return [
        ("silence", np.zeros(count, np.int16)),
        ("full scale", np.where(rng.random(count) < 0.5, -32768, 32767).astype(np.int16)),
        ("noise", rng.normal(0, 3000, count).clip(-32768, 32767).astype(np.int16)),
        ("faint noise", rng.integers(-3, 4, count).astype(np.int16)),
        ("sweep", (20000 * sweep).astype(np.int16)),
    ]
