"""The check that starts from the file: every layer beside what the format's own runtime makes of the bytes it got.

All other checks start from the Graph, so none of them can see what a reader read wrongly.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter import reference
from converter.arrays import Int8
from converter.errors import ConvertError
from converter.files import scratch_folder
from converter.formats.original import End, Original, Place
from converter.graph import Graph
from converter.tensor import Tensor
from converter.tflite.interpreters import Unavailable, installed
from converter.verify.checks import EQUAL, WITHIN, Check, CheckInputs, Mismatches

MICRO = ("tflite-micro", "tflite_micro")  # to install, import
PACKAGES = {"onnx": ("onnxruntime", "onnxruntime"), "tflite": MICRO, "tflm": MICRO}
MODULE = "converter.verify.oracle"
ROOT = Path(__file__).resolve().parents[2]
RECORDED = 100  # inputs of them in the long form
SECONDS = 120
NO_INT8 = 999  # no step of an int8 grid
Arrays = dict[Place, NDArray[Any]]


def claim(original: Original) -> str:
    """What is compared."""
    if original.format == "onnx":
        return f"reference within 1 step of {original.name} in onnxruntime, per layer"
    return f"reference == {original.name} in TensorFlow Lite Micro, per layer"


def original(given: CheckInputs) -> Check:
    """The long form: recorded inputs and noise."""
    if given.source.original is None:
        raise Unavailable("the model was not read from a file")
    x = np.concatenate([given.recorded[:RECORDED], given.noise])
    return compare(given.graph, given.source.original, x)


def short_check(graph: Graph, file: Original) -> str:
    """A few inputs, under a second; one line that says what was compared. Raises ConvertError where a value differs,
    Unavailable where the runtime is missing or cannot run the file."""
    info = graph.tensors[graph.input]
    noise = np.random.default_rng(20241120).uniform(-128, 128, (3, *info.shape[1:]))
    width = np.array([1.0, 1 / 4, 1 / 16]).reshape(-1, *[1] * (noise.ndim - 1))  # loud and quiet inputs
    x = np.clip(np.floor(info.quant.zero_point * (1 - width) + noise * width), -128, 127).astype(np.int8)
    found = compare(graph, file, x)
    if found.differences:
        raise ConvertError(
            f"{file.name}: was read wrongly, {found.detail}; nothing is written: please report the model"
        )
    how = "equal" if found.status == EQUAL else "within one step"
    runtime = f"{PACKAGES[file.format][0]} {installed(PACKAGES[file.format][0])}"
    return f"{file.name} itself in {runtime}: {found.checked} {found.unit}, every value {how}"


def compare(graph: Graph, file: Original, x: Int8) -> Check:
    """x int8 [n, ...] through the file in its own runtime and through the reference, layer by layer. Raises
    Unavailable."""
    theirs = _theirs(graph, file, x)
    return _beside_onnx(graph, file, x, theirs) if file.format == "onnx" else _beside_tflite(graph, file, x, theirs)


def _beside_tflite(graph: Graph, file: Original, x: Int8, theirs: Arrays) -> Check:
    mismatches = Mismatches(f"layer outputs of {len(x)} inputs")
    ours = reference.run_batch_all(graph, x)
    last = file.places[-1]
    theirs[last] = _from_end(graph.tensors[last.tensor], file.ends[1], theirs[last])
    for place in file.places:
        for row, found in enumerate(theirs[place]):
            mismatches.compare(_where(graph, file, place, row), ("ours", "TFLM"), ours[place.tensor][row], found)
    return mismatches.check()


def _beside_onnx(graph: Graph, file: Original, x: Int8, theirs: Arrays) -> Check:
    """Each layer is given onnxruntime's own inputs, so that roundings do not add up; the model's output in steps of its
    scale."""
    mismatches = Mismatches(f"layer outputs of {len(x)} inputs")
    values: list[Int8] = [x] * len(graph.tensors)  # onnxruntime's where the file has the tensor, else ours from them
    known = {place.tensor: place for place in reversed(file.places)}
    ours = {graph.input: x}
    seen = same = 0
    for layer in (None, *graph.layers):
        index = graph.input if layer is None else layer.output
        if layer is not None:
            ours[index] = reference.run_layer_batch(graph, layer, [values[i] for i in layer.inputs])
        values[index] = ours[index]
        if index not in known:
            continue
        found = _steps(graph.tensors[index], theirs[known[index]], known[index])
        _within_a_step(mismatches, graph, file, known[index], ours[index], found)
        if found.size == ours[index].size:
            seen, same = seen + found.size, same + int((found == ours[index].reshape(found.shape)).sum())
            values[index] = np.clip(found, -128, 127).astype(np.int8).reshape(ours[index].shape)
    last = file.places[-1]
    output = _steps(graph.tensors[last.tensor], theirs[last], last)
    _within_a_step(mismatches, graph, file, last, ours[last.tensor], output)
    check = mismatches.check()
    if check.differences:
        return check
    apart = int(np.abs(reference.run_batch(graph, x).reshape(output.shape).astype(np.int64) - output).max())
    detail = f"{same / max(seen, 1):.2%} of {seen:,} values equal, the others one step apart; end to end {apart}"
    return replace(check, status=WITHIN, detail=detail)


def _within_a_step(
    mismatches: Mismatches, graph: Graph, file: Original, place: Place, ours: Int8, found: NDArray[np.int64]
) -> None:
    for row in range(len(found)):
        where = _where(graph, file, place, row)
        mismatches.compare(where, ("ours", "onnxruntime"), ours[row], found[row], steps=1)


def _as_end(tensor: Tensor, end: End, x: Int8) -> NDArray[Any]:
    """int8 [n, ...] as the values of the file's type that stand for it, each [1, ...]."""
    stored = x.reshape(-1, *tensor.shape)
    if end == "uint8":
        return (stored.astype(np.int16) + 128).astype(np.uint8)
    return _real(tensor, stored) if end == "float32" else stored


def _real(tensor: Tensor, steps: NDArray[Any]) -> NDArray[np.float32]:
    """As DEQUANTIZE computes them."""
    return ((steps.astype(np.float64) - tensor.quant.zero_point) * tensor.quant.scale).astype(np.float32)


def _from_end(tensor: Tensor, end: End, theirs: NDArray[Any]) -> NDArray[Any]:
    """The int8 that a file's output stands for; a real value that is not exactly one of theirs becomes NO_INT8."""
    if end == "uint8":
        return theirs.astype(np.int16) - 128
    if end == "int8":
        return theirs
    steps = _steps(tensor, theirs).reshape(theirs.shape)
    return np.where(_real(tensor, steps) == theirs, steps, NO_INT8)


def _where(graph: Graph, file: Original, place: Place, row: int) -> str:
    if place is file.places[-1]:
        return f"the output {str(place.key)[:200]}, input {row}"
    layer = next((layer.name for layer in graph.layers if layer.output == place.tensor), "the input")
    return f"layer {layer}, input {row}"


def _steps(tensor: Tensor, theirs: NDArray[Any], place: Place | None = None) -> NDArray[np.int64]:
    """int8, uint8 or real values [n, ONNX shape] -> whole steps of the tensor's grid, [n, ...] in the stored order."""
    if theirs.dtype == np.uint8:
        theirs = theirs.astype(np.int16) - 128
    if place is not None and place.chw:
        theirs = theirs.reshape(len(theirs), 1, *place.chw)
    if place is not None and (place.is_nchw or place.chw):
        theirs = np.moveaxis(theirs, 2, -1)
    if theirs.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            steps = np.rint(theirs.astype(np.float64) / tensor.quant.scale) + tensor.quant.zero_point
        theirs = np.nan_to_num(np.clip(steps, -(2.0**40), 2.0**40), nan=2.0**40)
    return np.ascontiguousarray(theirs).astype(np.int64).reshape(len(theirs), -1)


def _theirs(graph: Graph, file: Original, x: Int8) -> Arrays:
    """What the runtime gives at every place."""
    request: dict[str, Any] = {"format": file.format, "keys": [place.key for place in file.places]}
    if file.format == "onnx":
        data, values, request["input"] = _onnx_request(graph, file, x)
    else:
        tensors = sum(tensor.size for tensor in graph.tensors)
        data, values = file.data, _as_end(graph.tensors[graph.input], file.ends[0], x)
        request["arena_bytes"] = 1_000_000 + 2 * tensors + 10 * len(data)
    return dict(zip(file.places, ask(data, values, request), strict=True))


def _onnx_request(graph: Graph, file: Original, x: Int8) -> tuple[bytes, NDArray[Any], str]:
    """(the file with every place as an output, inputs as it takes them, its input's name)."""
    import onnx

    model = onnx.load_model_from_string(file.data)
    del model.graph.output[:]
    for key in dict.fromkeys(place.key for place in file.places):
        model.graph.output.append(onnx.ValueInfoProto(name=str(key)))
    constants = {tensor.name for tensor in model.graph.initializer}
    taken = next(info for info in model.graph.input if info.name not in constants)
    shape = tuple(max(dim.dim_value, 1) for dim in taken.type.tensor_type.shape.dim)
    stored = x.reshape(-1, 1, *graph.tensors[graph.input].shape[1:])
    is_nchw = next(place.is_nchw for place in file.places if place.tensor == graph.input)
    values = (np.moveaxis(stored, -1, 2) if is_nchw else stored).reshape(-1, *shape)
    kind = taken.type.tensor_type.elem_type
    if kind in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8):
        shifted = values if kind == onnx.TensorProto.INT8 else (values.astype(np.int16) + 128).astype(np.uint8)
        return model.SerializeToString(), np.ascontiguousarray(shifted), taken.name
    quant = graph.tensors[graph.input].quant
    real = (values.astype(np.float32) - np.float32(quant.zero_point)) * np.float32(quant.scale)
    return model.SerializeToString(), real, taken.name


def ask(model: bytes, x: NDArray[Any], request: dict[str, Any]) -> Sequence[NDArray[Any]]:
    """The oracle's answer, an array for each key of the request; raises Unavailable."""
    package, module = PACKAGES[request["format"]]
    if find_spec(module) is None:
        raise Unavailable(f"the package {package} is not installed")
    with scratch_folder() as folder:
        (folder / "model").write_bytes(model)
        (folder / "request.json").write_text(json.dumps(request))
        np.save(folder / "x.npy", x)
        command = [sys.executable, "-m", MODULE, str(folder)]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{package} {installed(package)} takes more than {SECONDS} s for this file") from None
        if (folder / "error.txt").is_file():
            told = done.stderr.decode("utf-8", "replace").split("\n") if request["format"] == "tflm" else []
            reason = "; ".join(
                [(folder / "error.txt").read_text(), *(line.strip()[:200] for line in told[:1] if line.strip())]
            )
            raise Unavailable(f"{package} {installed(package)} cannot run this file ({reason})")
        if done.returncode or not (folder / "found.npz").is_file():
            raise Unavailable(f"{package} {installed(package)} crashes on this file (exit status {done.returncode})")
        with np.load(folder / "found.npz") as archive:
            return [archive[str(number)] for number in range(len(request["keys"]))]
