"""The numpy int8 run of a Graph: what every engine of this project must equal, bit for bit.

Each operator's own run (converter/operators) follows TensorFlow Lite Micro's reference kernel of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from converter.arrays import Int8
from converter.errors import ConvertError
from converter.graph import Graph, Operator

CHUNK = 16  # small enough for the caches


def run(graph: Graph, x_int8: Int8) -> list[Int8]:
    """All tensors of one inference from a reset, in the graph's numbering; x has the input tensor's shape."""
    tensors = next(Run(graph).tensors(x_int8))
    return [tensor[0:1].reshape(info.shape) for tensor, info in zip(tensors, graph.tensors, strict=True)]


def run_batch(graph: Graph, x_int8: Int8) -> Int8:
    """The output tensor for n inputs stacked along axis 0: [n, *output shape without its 1]."""
    return Run(graph).outputs(x_int8)


def run_batch_all(graph: Graph, x_int8: Int8) -> list[Int8]:
    """Every tensor for n inputs stacked along axis 0; for comparing layer by layer."""
    return [np.concatenate(tensors) for tensors in zip(*Run(graph).tensors(x_int8), strict=True)]


def _batch(graph: Graph, x_int8: Int8) -> Int8:
    info = graph.tensors[graph.input]
    if x_int8.dtype != np.int8 or x_int8.size == 0 or x_int8.size % info.size:
        raise ConvertError(
            f"{info.name}: the input is int8 of shape {info.shape}, or several stacked, got {x_int8.dtype} "
            f"{x_int8.shape}"
        )
    return x_int8.reshape(-1, *info.shape[1:])


class Run:
    """Inferences one after the other from a reset, each going on from what the one before left in the variables."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._state = {v.read: np.full(graph.tensors[v.read].shape, v.initial, np.int8) for v in graph.variables}

    def outputs(self, x_int8: Int8) -> Int8:
        """The output tensor for n inputs stacked along axis 0: [n, *output shape without its 1]."""
        return np.concatenate([tensors[self._graph.output] for tensors in self.tensors(x_int8)])

    def tensors(self, x_int8: Int8) -> Iterator[list[Int8]]:
        """Every tensor, some inferences at a time; one where the next needs its state."""
        graph, batch = self._graph, _batch(self._graph, x_int8)
        chunk = 1 if graph.variables else CHUNK
        for start in range(0, len(batch), chunk):
            tensors = _run_all(graph, batch[start : start + chunk], self._state)
            self._state = {v.read: tensors[v.written].reshape(graph.tensors[v.read].shape) for v in graph.variables}
            yield tensors


def _run_all(graph: Graph, batch: Int8, state: Mapping[int, Int8]) -> list[Int8]:
    tensors: list[Int8] = [np.empty(0, np.int8)] * len(graph.tensors)
    tensors[graph.input] = batch
    for index, values in state.items():
        tensors[index] = values
    for layer in graph.layers:
        inputs = [tensors[index] for index in layer.inputs]
        tensors[layer.output] = layer.run(graph, inputs).reshape(len(batch), *graph.tensors[layer.output].shape[1:])
    return tensors


def run_layer_batch(graph: Graph, layer: Operator, inputs: list[Int8]) -> Int8:
    """One layer alone, on operands of n inferences stacked along axis 0."""
    return layer.run(graph, inputs).reshape(len(inputs[0]), *graph.tensors[layer.output].shape[1:])
