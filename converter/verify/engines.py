"""Checks of the engines on this machine: generated C, TensorFlow Lite's interpreters and PyTorch's fake-quant beside
the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter import convert as conversion
from converter import reference
from converter.aot.native import NativeModel
from converter.arrays import Int8, Int64
from converter.operators.fully_connected import FullyConnected
from converter.tflite.interpreters import TfliteRuntime, Tflm, Unavailable
from converter.tflite.legacy_rounding import agrees_with_legacy_rounding
from converter.tflite.reader import read_tflite
from converter.tflite.writer import fits_int4, weight_bits, write_tflite
from converter.verify.checks import DIFFERENT, EQUAL, WITHIN, Check, CheckInputs, Mismatches


def identities(given: CheckInputs) -> Check:
    """ONNX, run folder, .tflite and generated header name the same model; RUN/firmware is what convert writes."""
    mismatches = Mismatches("ids and files")
    graph, artifact = given.graph, given.source.artifact
    again = read_tflite(write_tflite(graph))
    _same(
        mismatches,
        "model_id after writing and reading the .tflite",
        ("model", ".tflite"),
        graph.model_id,
        again.model_id,
    )
    if any(map(fits_int4, graph.layers)):
        packed = read_tflite(write_tflite(graph, int4=True))
        _same(
            mismatches,
            "model_id after writing and reading int4 weights",
            ("model", ".tflite"),
            graph.model_id,
            packed.model_id,
        )
    _same(
        mismatches,
        "kws_spec after writing and reading the .tflite",
        ("model", ".tflite"),
        graph.spec_json,
        again.spec_json,
    )
    if artifact is None:
        return mismatches.check()
    _same(mismatches, "spec_id", ("model.onnx", "artifact.json"), given.source.spec_id, artifact.spec.spec_id)
    model = artifact.firmware / "model.tflite"
    int4 = model.is_file() and model.read_bytes() == write_tflite(graph, int4=True)
    for name, data in conversion.render(given.source, int4).items():
        file = artifact.firmware / name
        if file.is_file():
            mismatches.compare(
                f"{file.parent.name}/{name}",
                ("convert writes", "the file has"),
                np.frombuffer(data, np.uint8),
                np.frombuffer(file.read_bytes(), np.uint8),
            )
    return mismatches.check()


def _same(mismatches: Mismatches, what: str, names: tuple[str, str], left: str, right: str) -> None:
    mismatches.count(left == right, f"{what}: {names[0]} {left[:60]}, {names[1]} {right[:60]}")


def native(given: CheckInputs, simd: bool) -> Check:
    """The generated C on this machine, layer by layer."""
    mismatches = Mismatches(f"layer outputs of {given.counts}")
    model = NativeModel(given.graph, given.folder / f"native{int(simd)}", simd)
    wanted = reference.run_batch_all(given.graph, given.inputs)
    for row, x in enumerate(given.inputs):
        for layer, got in zip(given.graph.layers, model.layers(x), strict=True):
            mismatches.compare(f"layer {layer.name}, input {row}", ("C", "reference"), got, wanted[layer.output][row])
    return mismatches.check()


def tflm(given: CheckInputs, int4: bool = False) -> Check:
    """Every layer's output by TFLM's interpreter against the reference."""
    mismatches = Mismatches(f"layer outputs of {given.counts}")
    engine = Tflm(given.graph, write_tflite(given.graph, int4))
    wanted = reference.run_batch_all(given.graph, given.inputs)
    for row, x in enumerate(given.inputs):
        theirs = engine.tensors(x)
        for layer in given.graph.layers:
            mismatches.compare(
                f"layer {layer.name}, input {row}",
                ("reference", "TFLM"),
                wanted[layer.output][row],
                theirs[layer.output],
            )
    return mismatches.check()


def tflite_runtime(given: CheckInputs) -> Check:
    """The output by tflite-runtime against TFLM's."""
    mismatches = Mismatches(f"outputs of {given.counts}")
    micro, lite = Tflm(given.graph), TfliteRuntime(given.graph)
    name = given.graph.tensors[given.graph.output].name
    for row, x in enumerate(given.inputs):
        mismatches.compare(f"output {name}, input {row}", ("tflite-runtime", "TFLM"), lite.output(x), micro.output(x))
    check = mismatches.check()
    if agrees_with_legacy_rounding(given.graph):
        return check
    if check.status == EQUAL:
        return replace(
            check, detail="on these inputs; some sum of a dense layer would round otherwise in older TensorFlow Lite"
        )
    why = (
        "like the Arduino library this runtime rounds a dense layer's scale to float32 "
        "(converter/tflite/legacy_rounding.py); train again"
    )
    return replace(check, detail=f"{check.detail}; {why}")


def fake_quant(given: CheckInputs) -> Check:
    """Same argmax but where the fake-quant's top two lie within 1 LSB; logits within 1 LSB; the share of exact rows is
    stated.

    Roundings of many layers may add up to more, and with fewer than 8 bits a step of a hidden activation is many LSB of
    the logits: there each layer, given the fake-quant's own inputs, must come within one step of its outputs. Rows that
    are judged so are counted.
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
    low_bit = any(0 < weight_bits(layer) < 8 for layer in graph.layers)
    far = (distance > 1) | (moved & ~close)
    recorded = {index for index, _ in _layer_keys(given)}
    by_layer = low_bit or all(layer.output in recorded for layer in graph.layers if weight_bits(layer))
    wrong = far
    if by_layer and (low_bit or far.any()):
        wrong = (far | low_bit) & ((_steps_apart(given) > 1) | _logits_moved(given, index, theirs))
    rows = len(ours)
    layers = [
        f"{graph.tensors[i].name} {_exact_share(given.vectors[key], ours_all[i]):.4%}" for i, key in _layer_keys(given)
    ]
    detail = (
        f"logits exact in {int((distance == 0).sum())} of {rows} rows, at most {int(distance.max())} LSB apart; "
        f"{int(moved.sum())} argmax moved, {int((moved & close).sum())} of them with the top two within 1 LSB; "
        f"equal values per layer: {', '.join(layers) or 'not recorded'}"
    )
    if low_bit:
        detail = (
            f"low-bit weights, so each layer is given the fake-quant's inputs and must come within one step; end to "
            f"end: {detail}"
        )
    elif far.any() and by_layer:
        detail = (
            f"{int(far.sum())} rows further apart end to end, where roundings of layers add up: there each layer is "
            f"given the fake-quant's inputs and must come within one step; {detail}"
        )
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        detail = f"input {row}: int8 logits {ours[row].tolist()}, fake-quant {theirs[row].tolist()}; {detail}"
    return Check("", DIFFERENT if wrong.any() else WITHIN, rows, "recorded inputs", int(wrong.sum()), detail)


def _steps_apart(given: CheckInputs) -> Int64:
    """Per recorded input the largest distance between a layer's outputs and the fake-quant's, both from the
    fake-quant's inputs; what is not recorded, as padding, comes of those."""
    graph, found = given.graph, np.zeros(len(given.vectors["features"]), np.int64)
    recorded = {graph.input: given.vectors["features"], **{i: given.vectors[key] for i, key in _layer_keys(given)}}
    for layer in graph.layers:
        if not all(index in recorded for index in layer.inputs):
            continue
        x = [recorded[index].reshape(len(found), *graph.tensors[index].shape[1:]) for index in layer.inputs]
        if layer.MEMORY == "view":
            recorded.setdefault(layer.output, x[0])
            continue
        ours = reference.run_layer_batch(graph, layer, x)
        if layer.output not in recorded:
            recorded[layer.output] = ours
        elif weight_bits(layer) or len(x) > 1:
            steps = np.abs(
                ours.reshape(len(found), -1).astype(np.int64) - recorded[layer.output].reshape(len(found), -1)
            )
            found = np.maximum(found, steps.max(axis=1))
    return found


def _logits_moved(given: CheckInputs, index: int, theirs: Int64) -> NDArray[np.bool_]:
    """Per recorded input, whether its logits are not those of its own last layer."""
    key = f"layer:{given.graph.tensors[index].name}"
    if key not in given.vectors:
        return np.zeros(len(theirs), bool)
    moved: NDArray[np.bool_] = (given.vectors[key].reshape(theirs.shape) != np.clip(theirs, -128, 127)).any(axis=1)
    return moved


def _layer_keys(given: CheckInputs) -> list[tuple[int, str]]:
    return [(i, f"layer:{t.name}") for i, t in enumerate(given.graph.tensors) if f"layer:{t.name}" in given.vectors]


def _exact_share(theirs: NDArray[Any], ours: Int8) -> float:
    if theirs.size != ours.size:
        return 0.0
    return float((theirs.reshape(ours.shape) == ours).mean())
