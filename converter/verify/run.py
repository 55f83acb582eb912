"""Equivalence checks: every engine that is here runs the same inputs, and the first difference is named.

A check whose part is missing says "not available here"; it never counts as passed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape

from converter import convert as conversion
from converter.errors import ConvertError
from converter.files import scratch_folder
from converter.tflite.interpreters import Unavailable
from converter.tflite.tflm_only import TflmOnly
from converter.tflite.writer import fits_int4
from converter.verify import board as board_checks
from converter.verify import engines, frontend, original, stream, tflm_only
from converter.verify.checks import ABSENT, DIFFERENT, EQUAL, WITHIN, BoardAccess, Check, CheckInputs, Checks

NOISE_INPUTS = 50
INT4_CLAIM = "reference == TensorFlow Lite Micro on int4 weights, per layer"


def run_checks(
    path: Path,
    max_inputs: int,
    elf: Path | None = None,
    audio: Path | None = None,
    board: BoardAccess | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Checks:
    """All checks for a run folder or a single model; on_progress is called with each claim as it starts.

    Recorded inputs are those of RUN/vectors.npz, then recordings under the folder `audio`, at most max_inputs together.
    """
    on_progress("inputs")
    loaded = conversion.load_any(path)
    if isinstance(loaded, TflmOnly):
        return tflm_only.run_checks(loaded, path, elf, board, on_progress)
    with prepared(path, max_inputs, elf, audio, board) as given:
        done = []
        for claim, check in _checks_for(given):
            on_progress(claim)
            try:
                done.append(replace(check(given), claim=claim))
            except Unavailable as missing:
                done.append(Check(claim, ABSENT, detail=str(missing)))
        return Checks(given.graph.model_id, given.source.spec_id, done)


def _checks_for(given: CheckInputs) -> list[tuple[str, Callable[[CheckInputs], Check]]]:
    """(claim, check) in the order of the line."""
    int4 = [(INT4_CLAIM, partial(engines.tflm, int4=True))] if any(map(fits_int4, given.graph.layers)) else []
    file = given.source.original
    return [
        *([(original.claim(file), original.original)] if file else []),
        ("ids and generated files agree", engines.identities),
        ("C front end == TFLM micro front end", frontend.front_end),
        ("portable C kernels == reference, per layer", partial(engines.native, simd=False)),
        ("SIMD C kernels == reference, per layer", partial(engines.native, simd=True)),
        ("streaming == whole window, every hop", stream.streaming),
        ("reference == TensorFlow Lite Micro, per layer", engines.tflm),
        *int4,
        ("tflite-runtime BUILTIN_REF == TensorFlow Lite Micro", engines.tflite_runtime),
        ("emulated board == AOT, through the serial text", board_checks.board),
        ("listening board == host, every score and decision", board_checks.listening),
        ("PyTorch fake-quant vs int8", engines.fake_quant),
    ]


@contextmanager
def prepared(
    path: Path,
    max_inputs: int,
    elf: Path | None = None,
    audio: Path | None = None,
    board: BoardAccess | None = None,
) -> Iterator[CheckInputs]:
    """What a single check needs; its folder is gone at the end."""
    source = conversion.load(path)
    shape = source.graph.tensors[source.graph.input].shape[1:]
    vectors = _vectors(source)
    vectors = {name: values[:max_inputs] for name, values in vectors.items()}
    pcm, features = (
        vectors.get("pcm", np.zeros((0, 0), np.int16)),
        vectors.get("features", np.zeros((0, *shape), np.int8)),
    )
    if audio is not None:
        pcm, features = frontend.recordings(source.graph, audio, max_inputs, pcm, features)
    recorded = features.reshape(-1, *shape)
    noise = np.random.default_rng(20241120).integers(-128, 128, (NOISE_INPUTS, *shape)).astype(np.int8)
    with scratch_folder() as folder:
        yield CheckInputs(source, vectors, pcm, recorded, noise, folder, elf, board)


def _vectors(source: conversion.Source) -> dict[str, NDArray[Any]]:
    if source.artifact is None or not source.artifact.vectors.is_file():
        return {}
    file = source.artifact.vectors
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error):
        raise ConvertError(f"{file}: damaged; export the run again") from None
    features, pcm, size = found.get("features"), found.get("pcm"), source.graph.tensors[source.graph.input].size
    counts = {values.shape[0] if values.ndim else 0 for values in found.values()}
    known = (
        features is not None
        and pcm is not None
        and features.dtype == np.int8
        and pcm.dtype == np.int16
        and pcm.ndim == 2
    )
    if not known or features is None or len(counts) != 1 or not len(features) or features[0].size != size:
        raise ConvertError(f"{file}: does not hold inputs of this model ({size} int8 each); export the run again")
    return found


def lines(checks: Checks) -> Iterator[str]:
    """For the terminal, with rich's markup: one line per check, what it found indented below."""
    colours = {EQUAL: "green", WITHIN: "green", DIFFERENT: "bold red", ABSENT: "yellow"}
    yield f"Equivalence checks: model {checks.model_id}, spec {checks.spec_id}"
    for check in checks.checks:
        compared = f": {check.checked:,} {check.unit}, {check.differences:,} different" if check.checked else ""
        yield f"  [{colours[check.status]}]{check.status}[/]  {escape(check.claim + compared)}"
        if check.detail:
            yield f"      {escape(check.detail)}"


def to_json(checks: Checks) -> dict[str, Any]:
    """What `host report --checks` reads."""
    return {**asdict(checks), "differs": checks.differs}
