"""The rules a Graph must keep; after check() every consumer may trust shapes, scales and the absence of int32 overflow.

Each limit is one of TensorFlow Lite Micro's own (it aborts or computes garbage beyond), so nothing it runs well is
refused. An operator's own rules stand in its file.
"""

from __future__ import annotations

import numpy as np

from converter.errors import ConvertError, require, require_none
from converter.graph import Graph, Operator
from converter.spec import KwsSpec, SpecError
from converter.tensor import check_tensor

MAX_LAYERS = 1000


def check(graph: Graph) -> Graph:
    """The same graph; raises ConvertError naming every layer that breaks a rule of its operator, or the first tensor or
    connection that is wrong."""
    for tensor in graph.tensors:
        check_tensor(tensor)
    ready, blockers = {graph.input}, []
    for layer in graph.layers:
        for index in layer.inputs:
            require(index in ready, layer.name, "reads a tensor that no earlier layer wrote; order the layers")
        require(layer.output not in ready, layer.name, "writes a tensor that is written already; give it its own")
        ready.add(layer.output)
        blockers += blockers_of(graph, layer)
    require_none(blockers)
    require(graph.output in ready and graph.output != graph.input, "output", "no layer writes the graph's output")
    require(len(ready) == len(graph.tensors), "graph", "there are tensors that no layer writes")
    return graph


def blockers_of(graph: Graph, layer: Operator) -> list[str]:
    """What stands in the way of one layer, nothing or one sentence; its tensors must be in the graph."""
    try:
        layer.check(graph)
    except ConvertError as error:
        return [str(error)]
    return []


def check_layers(count: int) -> None:
    """Raises ConvertError for more layers than any model of the board has, before anything is made of them."""
    require(count <= MAX_LAYERS, "the model", f"has at most {MAX_LAYERS} layers, got {count}; convert a smaller one")


def check_spec(graph: Graph) -> Graph:
    """The same graph; raises ConvertError when its spec_json does not describe its input and output."""
    if not graph.spec_json:
        return graph
    try:
        spec = KwsSpec.from_json(graph.spec_json)
    except SpecError as error:
        raise ConvertError(f"metadata kws_spec: {error}; export the model again") from None
    x, y = graph.tensors[graph.input], graph.tensors[graph.output]
    features = spec.features
    size = f"the spec has {features.frames} x {features.channels} features, the model's input is {x.shape}"
    require(x.size == features.frames * features.channels, x.name, size)
    same = x.quant.scale == float(np.float32(features.scale)) and x.quant.zero_point == features.zero_point
    grid = f"the spec's features are ({features.scale:.9g}, {features.zero_point}), the model's input {x.quant.text}"
    require(same, x.name, grid)
    require(y.size == len(spec.labels), y.name, f"the spec has {len(spec.labels)} labels, the model {y.size} outputs")
    return graph
