"""The ladder of equality: every engine that is here runs the same inputs, and the first difference is named.

A rung whose part is missing says "not available here"; it never counts as passed.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape

from converter import convert as conversion
from converter import reference
from converter.aot.native import NativeModel
from converter.graph import ConvertError, FullyConnected, Graph, Int8, Reshape
from converter.tflite.interpreters import TfliteRuntime, Tflm, Unavailable
from converter.tflite.legacy_rounding import agrees_with_legacy_rounding
from converter.tflite.reader import read_tflite
from converter.tflite.writer import fits_int4, weight_bits, write_tflite

EQUAL, DIFFERENT, ABSENT, WITHIN = "equal", "DIFFERENT", "not available here", "within the rule"
NOISE_INPUTS = 50
INT4_CLAIM = "reference == TensorFlow Lite Micro on int4 weights, per layer"


@dataclass(frozen=True)
class Rung:
    """One claim: `checked` comparisons of `unit` were made, `differences` of them failed; detail names the first."""

    claim: str
    status: str
    checked: int = 0
    unit: str = ""
    differences: int = 0
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Climb:
    """What every rung is given: the model, recorded clips (of vectors.npz first) and their features, noise, a folder to
    work in."""

    source: conversion.Source
    vectors: dict[str, NDArray[Any]]
    pcm: NDArray[np.int16]
    recorded: Int8
    noise: Int8
    folder: Path
    elf: Path | None = None

    @property
    def graph(self) -> Graph:
        return self.source.graph

    @property
    def inputs(self) -> Int8:
        return np.concatenate([self.recorded, self.noise])

    @property
    def counts(self) -> str:
        return f"inputs ({len(self.recorded)} recorded, {len(self.noise)} noise)"


@dataclass
class Tally:
    """Counts comparisons and keeps the first difference."""

    claim: str
    unit: str
    checked: int = 0
    differences: int = 0
    first: str = ""

    def compare(self, where: str, names: tuple[str, str], left: NDArray[Any], right: NDArray[Any]) -> None:
        """One comparison of two arrays of equal size."""
        self.checked += 1
        a, b = np.ravel(left), np.ravel(right)
        if a.shape == b.shape and np.array_equal(a, b):
            return
        self.differences += 1
        if self.first:
            return
        if a.shape != b.shape:
            self.first = f"{where}: {names[0]} has {a.size} values, {names[1]} {b.size}"
            return
        index = int(np.flatnonzero(a != b)[0])
        self.first = f"{where}, index {index}: {names[0]} {a[index]}, {names[1]} {b[index]}"

    def rung(self) -> Rung:
        return Rung(
            self.claim, DIFFERENT if self.differences else EQUAL, self.checked, self.unit, self.differences, self.first
        )


@dataclass(frozen=True)
class Ladder:
    model_id: str
    spec_id: str
    rungs: list[Rung] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        return any(rung.status == DIFFERENT for rung in self.rungs)


def climb(
    path: Path,
    max_inputs: int,
    elf: Path | None = None,
    audio: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Ladder:
    """All rungs for a run folder or a single model; `tell` hears each claim as it starts.

    Recorded inputs are those of RUN/vectors.npz, then recordings under the folder `audio`, at most max_inputs together.
    """
    from converter.verify import board as verify_board
    from converter.verify import frontend as verify_frontend
    from converter.verify import stream as verify_stream  #

    tell("inputs")
    with prepared(path, max_inputs, elf, audio) as given:
        ladder = Ladder(given.graph.model_id, given.source.spec_id)
        for claim, check in (
            ("ids and generated files agree", identities),
            ("C front end == TFLM micro front end", verify_frontend.front_end),
            ("portable C kernels == reference, per layer", lambda g: native(g, simd=False)),
            ("SIMD C kernels == reference, per layer", lambda g: native(g, simd=True)),
            ("streaming == whole window, every hop", verify_stream.streaming),
            ("reference == TensorFlow Lite Micro, per layer", tflm),
            *([(INT4_CLAIM, lambda g: tflm(g, int4=True))] if any(map(fits_int4, given.graph.layers)) else []),
            ("tflite-runtime BUILTIN_REF == TensorFlow Lite Micro", tflite_runtime),
            ("emulated board == AOT, through the serial text", verify_board.board),
            ("listening board == host, every score and decision", verify_board.listening),
            ("PyTorch fake-quant vs int8", fake_quant),
        ):
            tell(claim)
            try:
                rung = check(given)
            except Unavailable as missing:
                rung = Rung(claim, ABSENT, detail=str(missing))
            ladder.rungs.append(Rung(**{**asdict(rung), "claim": claim}))
    return ladder


@contextmanager
def prepared(path: Path, max_inputs: int, elf: Path | None = None, audio: Path | None = None) -> Iterator[Climb]:
    """What a single rung needs; its folder is gone at the end."""
    source = conversion.load(path)
    shape = source.graph.tensors[source.graph.input].shape[1:]
    vectors = _vectors(source)
    vectors = {name: values[:max_inputs] for name, values in vectors.items()}
    pcm, features = (
        vectors.get("pcm", np.zeros((0, 0), np.int16)),
        vectors.get("features", np.zeros((0, *shape), np.int8)),
    )
    if audio is not None:
        from converter.verify.frontend import recordings

        pcm, features = recordings(source.graph, audio, max_inputs, pcm, features)
    recorded = features.reshape(-1, *shape)
    noise = np.random.default_rng(20241120).integers(-128, 128, (NOISE_INPUTS, *shape)).astype(np.int8)
    with tempfile.TemporaryDirectory(prefix="verify.") as folder:
        yield Climb(source, vectors, pcm, recorded, noise, Path(folder), elf)


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


def identities(given: Climb) -> Rung:
    """ONNX, run folder, .tflite and generated header name the same model; RUN/firmware is what convert writes."""
    tally = Tally("", "ids and files")
    graph, artifact = given.graph, given.source.artifact
    again = read_tflite(write_tflite(graph))
    _same(tally, "model_id after writing and reading the .tflite", ("model", ".tflite"), graph.model_id, again.model_id)
    if any(map(fits_int4, graph.layers)):
        packed = read_tflite(write_tflite(graph, int4=True))
        _same(
            tally,
            "model_id after writing and reading int4 weights",
            ("model", ".tflite"),
            graph.model_id,
            packed.model_id,
        )
    _same(
        tally, "kws_spec after writing and reading the .tflite", ("model", ".tflite"), graph.spec_json, again.spec_json
    )
    if artifact is None:
        return tally.rung()
    _same(tally, "spec_id", ("model.onnx", "artifact.json"), given.source.spec_id, artifact.spec.spec_id)
    model = artifact.firmware / "model.tflite"
    int4 = model.is_file() and model.read_bytes() == write_tflite(graph, int4=True)
    for name, data in conversion.render(given.source, int4).items():
        file = artifact.firmware / name
        if file.is_file():
            tally.compare(
                f"{file.parent.name}/{name}",
                ("convert writes", "the file has"),
                np.frombuffer(data, np.uint8),
                np.frombuffer(file.read_bytes(), np.uint8),
            )
    return tally.rung()


def _same(tally: Tally, what: str, names: tuple[str, str], left: str, right: str) -> None:
    tally.checked += 1
    if left != right:
        tally.differences += 1
        tally.first = tally.first or f"{what}: {names[0]} {left[:60]}, {names[1]} {right[:60]}"


def native(given: Climb, simd: bool) -> Rung:
    """The generated C on this machine, layer by layer."""
    tally = Tally("", f"layer outputs of {given.counts}")
    model = NativeModel(given.graph, given.folder / f"native{int(simd)}", simd)
    wanted = reference.run_batch_all(given.graph, given.inputs)
    for row, x in enumerate(given.inputs):
        for layer, got in zip(given.graph.layers, model.layers(x), strict=True):
            tally.compare(f"layer {layer.name}, input {row}", ("C", "reference"), got, wanted[layer.output][row])
    return tally.rung()


def tflm(given: Climb, int4: bool = False) -> Rung:
    tally = Tally("", f"layer outputs of {given.counts}")
    engine = Tflm(given.graph, write_tflite(given.graph, int4))
    wanted = reference.run_batch_all(given.graph, given.inputs)
    for row, x in enumerate(given.inputs):
        theirs = engine.tensors(x)
        for layer in given.graph.layers:
            tally.compare(
                f"layer {layer.name}, input {row}",
                ("reference", "TFLM"),
                wanted[layer.output][row],
                theirs[layer.output],
            )
    return tally.rung()


def tflite_runtime(given: Climb) -> Rung:
    tally = Tally("", f"outputs of {given.counts}")
    micro, lite = Tflm(given.graph), TfliteRuntime(given.graph)
    name = given.graph.tensors[given.graph.output].name
    for row, x in enumerate(given.inputs):
        tally.compare(f"output {name}, input {row}", ("tflite-runtime", "TFLM"), lite.output(x), micro.output(x))
    rung = tally.rung()
    if agrees_with_legacy_rounding(given.graph):
        return rung
    if rung.status == EQUAL:
        return replace(
            rung, detail="on these inputs; some sum of a dense layer would round otherwise in older TensorFlow Lite"
        )
    why = (
        "like the Arduino library this runtime rounds a dense layer's scale to float32 "
        "(converter/tflite/legacy_rounding.py); train again"
    )
    return replace(rung, detail=f"{rung.detail}; {why}")


def fake_quant(given: Climb) -> Rung:
    """Same argmax but where the fake-quant's top two lie within 1 LSB; logits within 1 LSB; the share of exact rows is
    stated.

    With fewer than 8 bits a step of a hidden activation is many LSB of the logits: there each layer, given the
    fake-quant's own inputs, must come within one step of its outputs.
    """
    if "logits" not in given.vectors:
        raise Unavailable("no RUN/vectors.npz with fake-quant outputs; `python -m trainer export RUN` writes it")
    graph = given.graph
    dense = [layer for layer in graph.layers if isinstance(layer, FullyConnected)]
    if not dense:
        raise Unavailable("the model has no dense layer that gives logits")
    index = dense[-1].output
    ours_all, quant = reference.run_batch_all(graph, given.vectors["features"]), graph.tensors[index].quant
    ours = ours_all[index].reshape(len(given.vectors["logits"]), -1).astype(np.int64)
    theirs = np.rint(given.vectors["logits"] / quant.scale).astype(np.int64).reshape(ours.shape) + quant.zero_point
    distance = np.abs(ours - np.clip(theirs, -128, 127)).max(axis=1)
    top = np.sort(theirs, axis=1)
    close = top[:, -1] - top[:, -2] <= 1
    moved = ours.argmax(axis=1) != theirs.argmax(axis=1)
    few_bits = any(0 < weight_bits(layer) < 8 for layer in graph.layers)
    wrong = _steps_apart(given) > 1 if few_bits else (distance > 1) | (moved & ~close)
    rows = len(ours)
    layers = [
        f"{graph.tensors[i].name} {_exact_share(given.vectors[key], ours_all[i]):.4%}" for i, key in _layer_keys(given)
    ]
    detail = (
        f"logits exact in {int((distance == 0).sum())} of {rows} rows, at most {int(distance.max())} LSB apart; "
        f"{int(moved.sum())} argmax moved, {int((moved & close).sum())} of them with the top two within 1 LSB; "
        f"equal values per layer: {', '.join(layers) or 'not recorded'}"
    )
    if few_bits:
        detail = (
            f"few bits, so each layer is given the fake-quant's inputs and must come within one step; end to "
            f"end: {detail}"
        )
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        detail = f"input {row}: int8 logits {ours[row].tolist()}, fake-quant {theirs[row].tolist()}; {detail}"
    return Rung("", DIFFERENT if wrong.any() else WITHIN, rows, "recorded inputs", int(wrong.sum()), detail)


def _steps_apart(given: Climb) -> NDArray[np.int64]:
    """Per recorded input the largest distance between a layer's outputs and the fake-quant's, both from the
    fake-quant's inputs."""
    graph, found = given.graph, np.zeros(len(given.vectors["features"]), np.int64)
    recorded = {graph.input: given.vectors["features"], **{i: given.vectors[key] for i, key in _layer_keys(given)}}
    for layer in graph.layers:
        x = recorded.get(layer.input)
        if isinstance(layer, Reshape) and x is not None:
            recorded.setdefault(layer.output, x)
        elif x is not None and layer.output in recorded and weight_bits(layer):
            ours = reference.run_layer_batch(
                graph, layer, [x.reshape(len(found), *graph.tensors[layer.input].shape[1:])]
            )
            steps = np.abs(
                ours.reshape(len(found), -1).astype(np.int64) - recorded[layer.output].reshape(len(found), -1)
            )
            found = np.maximum(found, steps.max(axis=1))
    return found


def _layer_keys(given: Climb) -> list[tuple[int, str]]:
    return [(i, f"layer:{t.name}") for i, t in enumerate(given.graph.tensors) if f"layer:{t.name}" in given.vectors]


def _exact_share(theirs: NDArray[Any], ours: Int8) -> float:
    if theirs.size != ours.size:
        return 0.0
    return float((theirs.reshape(ours.shape) == ours).mean())


def lines(ladder: Ladder) -> Iterator[str]:
    """For the terminal, with rich's markup: one line per rung, what it found indented below."""
    colours = {EQUAL: "green", WITHIN: "green", DIFFERENT: "bold red", ABSENT: "yellow"}
    yield f"Ladder of equality: model {ladder.model_id}, spec {ladder.spec_id}"
    for rung in ladder.rungs:
        compared = f": {rung.checked:,} {rung.unit}, {rung.differences:,} different" if rung.checked else ""
        yield f"  [{colours[rung.status]}]{rung.status}[/]  {escape(rung.claim + compared)}"
        if rung.detail:
            yield f"      {escape(rung.detail)}"


def to_json(ladder: Ladder) -> dict[str, Any]:
    """What `host report --ladder` reads."""
    rungs = [asdict(rung) for rung in ladder.rungs]
    return {"model_id": ladder.model_id, "spec_id": ladder.spec_id, "differs": ladder.differs, "rungs": rungs}
