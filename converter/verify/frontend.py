"""The check of the audio front end: our C against TFLM's, clip by clip and as one continuous stream."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from converter.arrays import Int8, Int16
from converter.audio.frontend import WHEEL, WHEEL_VERSION, MicroFrontend, WheelEngine, load_wheel, quantize_features
from converter.audio.native import NativeEngine, build
from converter.audio.wav import SUFFIXES, read_wav
from converter.compiler import find_compiler
from converter.errors import ConvertError
from converter.graph import Graph
from converter.spec import FeatureSpec, KwsSpec
from converter.tflite.interpreters import Unavailable
from converter.verify.checks import Check, CheckInputs, Mismatches

GENERATED_SECONDS = 4


def front_end(given: CheckInputs) -> Check:
    """Raw values from reset for every clip, all clips in one stream, and generated sounds; the portable form and the
    DSP form."""
    spec = _feature_spec(given.graph)
    library = load_wheel()
    if library is None:
        raise Unavailable(f"the package {WHEEL}=={WHEEL_VERSION} is not installed")
    if find_compiler() is None:
        raise Unavailable("no C compiler (cc, gcc, clang) is installed")
    forms = [
        (
            name,
            NativeEngine(
                spec, build(spec, given.folder / f"frontend_{name}.so", ("-shared", "-fPIC", f"-DFRONTEND_SIMD={simd}"))
            ),
        )
        for simd, name in enumerate(("portable", "DSP"))
    ]
    theirs = WheelEngine(spec, library)
    streams = [(f"clip {index}", pcm) for index, pcm in enumerate(given.pcm)]
    if len(given.pcm):
        streams.append(("all clips in one stream", given.pcm.reshape(-1)))
    streams += synthetic_signals(spec.sample_rate_hz)
    seconds = sum(len(pcm) for _, pcm in streams) / spec.sample_rate_hz
    mismatches = Mismatches(f"streams, portable and DSP form ({seconds:,.0f} s of audio each)")
    for where, pcm in streams:
        samples = np.ascontiguousarray(pcm)
        theirs.reset()
        wanted = theirs.process(samples)
        for name, ours in forms:
            ours.reset()
            mismatches.compare(f"front end, {where}", (f"our C ({name})", "TFLM's C"), ours.process(samples), wanted)
    for index, features in enumerate(given.vectors.get("features", ())):
        theirs.reset()
        fresh = quantize_features(theirs.process(np.ascontiguousarray(given.pcm[index])), spec)
        mismatches.compare(f"features of clip {index}", ("TFLM's C", "vectors.npz"), fresh, features)
    return mismatches.check()


def recordings(graph: Graph, folder: Path, max_inputs: int, pcm: Int16, features: Int8) -> tuple[Int16, Int8]:
    """(pcm, features) with recordings under `folder` behind them: in SHA-256 order of the file name, cut or padded to
    one clip."""
    if not graph.spec_json:
        raise ConvertError(
            f"{folder}: the model carries no spec, so recordings cannot be turned into its inputs; leave --audio out"
        )
    spec = _feature_spec(graph)
    files = sorted((file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES), key=_name_order)
    if not files:
        raise ConvertError(f"{folder}: holds no .wav or .flac; name a folder of recordings")
    front_end, clips, rows = MicroFrontend(spec), [], []
    for file in files[: max_inputs - len(pcm)]:
        clip = read_wav(file, spec.sample_rate_hz)[: spec.clip_samples]
        clips.append(np.concatenate([clip, np.zeros(spec.clip_samples - len(clip), np.int16)]))
        front_end.reset()
        rows.append(front_end.features(clips[-1]))
    if not clips:
        return pcm, features
    shape = (-1, spec.frames, spec.channels)
    return (
        np.concatenate([pcm.reshape(-1, spec.clip_samples), np.stack(clips)]),
        np.concatenate([features.reshape(shape), np.stack(rows).reshape(shape)]),
    )


def _name_order(file: Path) -> str:
    return hashlib.sha256(f"{file.parent.name}/{file.name}".encode()).hexdigest()


def _feature_spec(graph: Graph) -> FeatureSpec:
    """The front end's settings; a foreign model has none."""
    if not graph.spec_json:
        raise Unavailable("the model carries no spec, so it has no front end")
    return KwsSpec.from_json(graph.spec_json).features


def synthetic_signals(rate: int) -> list[tuple[str, Int16]]:
    """(name, pcm) of sounds that need no recording."""
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
