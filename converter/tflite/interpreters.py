"""The engines of others that judge ours: TensorFlow Lite Micro and tflite-runtime, each absent on some machines."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from converter.arrays import Int8
from converter.errors import ConvertError
from converter.graph import Graph
from converter.tflite.writer import write_tflite


class Unavailable(Exception):
    """An engine that this machine does not have; the message says which package is missing."""


class Tflm:
    """TensorFlow Lite Micro's real interpreter with its reference kernels (package tflite-micro, x86-64 Linux)."""

    def __init__(self, graph: Graph, model: bytes | None = None, keep_all: bool = True) -> None:
        try:
            from tflite_micro import runtime
        except ImportError as error:
            raise Unavailable(f"the package tflite-micro is not installed ({error})") from None
        self._graph = graph
        data = write_tflite(graph) if model is None else model
        config = (
            runtime.InterpreterConfig.kPreserveAllTensors
            if keep_all
            else runtime.InterpreterConfig.kAllocationRecording
        )
        arena_bytes = (1 << 20) + 2 * sum(tensor.size for tensor in graph.tensors) + 10 * len(data)
        try:
            self._interpreter = runtime.Interpreter.from_bytes(data, arena_size=arena_bytes, intrepreter_config=config)
        except RuntimeError as error:
            raise ConvertError(f"TensorFlow Lite Micro refuses the model: {error}") from None

    def output(self, x_int8: Int8) -> Int8:
        """int8 [1, ...] -> the output tensor."""
        shape = self._graph.tensors[self._graph.input].shape
        self._interpreter.set_input(np.ascontiguousarray(x_int8.reshape(shape)), 0)
        self._interpreter.invoke()
        result: Int8 = np.array(self._interpreter.get_output(0), np.int8)
        return result

    def tensors(self, x_int8: Int8) -> list[Int8]:
        """Every activation, in the graph's numbering; only for a model that write_tflite made, with keep_all."""
        self.output(x_int8)
        raw = [self._interpreter.GetTensor(index, 0)["tensor_data"] for index in range(len(self._graph.tensors))]
        return [
            np.array(data, np.int8).reshape(tensor.shape) for data, tensor in zip(raw, self._graph.tensors, strict=True)
        ]


class TfliteRuntime:
    """tflite-runtime with BUILTIN_REF kernels: equal to TensorFlow Lite Micro (the default XNNPACK kernels are not)."""

    def __init__(self, graph: Graph, model: bytes | None = None) -> None:
        try:
            from tflite_runtime import interpreter
        except ImportError as error:
            raise Unavailable(f"the package tflite-runtime is not installed ({error})") from None
        resolver = interpreter.OpResolverType.BUILTIN_REF
        try:
            self._interpreter = interpreter.Interpreter(
                model_content=write_tflite(graph) if model is None else model, experimental_op_resolver_type=resolver
            )
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise Unavailable(
                f"tflite-runtime {installed('tflite-runtime')} cannot run this model ({reason})"
            ) from None
        self._shape = graph.tensors[graph.input].shape

    def output(self, x_int8: Int8) -> Int8:
        """int8 [1, ...] -> the output tensor."""
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], x_int8.reshape(self._shape))
        self._interpreter.invoke()
        result: Int8 = self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])
        return result


def installed(package: str) -> str:
    """The version of an installed package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
