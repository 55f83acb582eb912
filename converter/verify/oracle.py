"""A process of its own that runs a model file in its own runtime: python -m converter.verify.oracle FOLDER.

The runtimes are C++ and know no damaged file: here they may crash, hang or take all memory. FOLDER holds model,
request.json and x.npy [n, ...]; it gets found.npz, arrays [n, ...] by the number of the key asked for, or error.txt.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY_BYTES = 8 << 30  # of addresses, most of which are never used
Arrays = list[list[NDArray[Any]]]  # [input][key]


def run_onnx(model: bytes, x: NDArray[Any], keys: Sequence[str], options: dict[str, Any]) -> Arrays:
    """Each node as ONNX defines it, in float: nothing is fused."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return [[np.asarray(y) for y in session.run(list(keys), {options["input"]: row})] for row in x]


def run_tflite(model: bytes, x: NDArray[Any], keys: Sequence[int], options: dict[str, Any]) -> Arrays:
    """TensorFlow Lite Micro's interpreter with its reference kernels."""
    from tflite_micro import runtime

    keep_all = runtime.InterpreterConfig.kPreserveAllTensors
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=options["arena_bytes"], intrepreter_config=keep_all)
    found: Arrays = []
    for row in x:
        interpreter.set_input(np.ascontiguousarray(row), 0)
        interpreter.invoke()
        tensors = [np.array(interpreter.GetTensor(key, 0)["tensor_data"]) for key in keys[:-1]]
        found.append([*tensors, np.array(interpreter.get_output(0))])
    return found


def run_tflm(model: bytes, x: NDArray[Any], keys: Sequence[int], options: dict[str, Any]) -> Arrays:
    """TensorFlow Lite Micro on bytes uint8 [n, ...], of all inputs in a row, each from a fresh state: (the arena that
    the board should have, bytes of all outputs). The interpreter's own figure for its arena, which records 64-bit
    pointers, an eighth more, and options["beside"]; the outputs are computed in an arena of this size."""
    from tflite_micro import runtime

    fresh = runtime.Interpreter.from_bytes(model, arena_size=options["most_bytes"])
    fresh.invoke()
    used = _printed_arena(fresh, options["plan_bytes"])
    arena_bytes = -(-(used + used // 8 + options["beside"]) // 1024) * 1024
    found: Arrays = []
    for row in x:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)
        at = 0
        for number, (kind, shape) in enumerate(options["inputs"]):
            count = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            interpreter.set_input(row[at : at + count].view(kind).reshape(shape), number)
            at += count
        interpreter.invoke()
        outputs = [np.array(interpreter.get_output(number)).tobytes() for number in range(options["outputs"])]
        found.append([np.array(arena_bytes), np.frombuffer(b"".join(outputs), np.uint8)])
    return found


def _printed_arena(interpreter: Any, plan_bytes: int) -> int:
    """Bytes of the arena, which the interpreter says on its standard error alone: what it keeps in its tail, and the
    larger of the activations in its head and the tables they are planned with, gone afterwards."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        said = dict(re.findall(rb"Arena allocation (head|tail) (\d+) bytes", file.read()))
    if len(said) != 2:
        raise ValueError("it does not say how much of its arena it uses")
    return int(said[b"tail"]) + max(int(said[b"head"]), plan_bytes)


RUNS: dict[str, Callable[..., Arrays]] = {"onnx": run_onnx, "tflite": run_tflite, "tflm": run_tflm}


def answer(model: bytes, x: NDArray[Any], request: dict[str, Any]) -> list[NDArray[Any]]:
    """For each key of the request its values [n, ...]; raises whatever the runtime does."""
    found = RUNS[request["format"]](model, x, request["keys"], request)
    return [np.stack(arrays) for arrays in zip(*found, strict=True)]


def main(folder: Path) -> None:
    """Answers one request."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # Windows has none; a limit below it holds already
        pass
    request = json.loads((folder / "request.json").read_text())
    model, x = (folder / "model").read_bytes(), np.load(folder / "x.npy")
    try:
        found = answer(model, x, request)
    except Exception as error:  # whatever a runtime raises is its answer
        (folder / "error.txt").write_text(" ".join(str(error).split())[:300])
        return
    np.savez(folder / "found.npz", **{str(number): values for number, values in enumerate(found)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
