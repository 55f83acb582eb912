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
    ready, blockers = {graph.input, *(variable.read for variable in graph.variables)}, []
    require(len(ready) == 1 + len(graph.variables), "variables", "two of them are read as one tensor, or as the input")
    for layer in graph.layers:
        for index in layer.inputs:
            require(index in ready, layer.name, "reads a tensor that no earlier layer wrote; order the layers")
        require(layer.output not in ready, layer.name, "writes a tensor that is written already; give it its own")
        ready.add(layer.output)
        blockers += blockers_of(graph, layer)
    require_none(blockers)
    require(graph.output in ready and graph.output != graph.input, "output", "no layer writes the graph's output")
    require(len(ready) == len(graph.tensors), "graph", "there are tensors that no layer writes")
    _check_variables(graph)
    return graph


def _check_variables(graph: Graph) -> None:
    """Each keeps the bytes of a layer that does not hand on what another variable holds now."""
    source = {graph.input: graph.input}
    for layer in graph.layers:
        source[layer.output] = source.get(layer.input, layer.input) if layer.MEMORY == "view" else layer.output
    written = {layer.output for layer in graph.layers} - {
        output for output, origin in source.items() if origin in {variable.read for variable in graph.variables}
    }
    held = graph.output in written or not graph.variables
    require(held, "output", "is what a variable holds, which the next inference has changed; copy it")
    for variable in graph.variables:
        require(variable.written in written, variable.name, "keeps a tensor that no layer computes")
        sizes = graph.tensors[variable.read].size, graph.tensors[variable.written].size
        require(sizes[0] == sizes[1], variable.name, f"is read as {sizes[0]} values and written as {sizes[1]}")
        require(-128 <= variable.initial <= 127, variable.name, f"begins as {variable.initial}, which is no int8")


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
    sizes = (len(spec.labels), 1) if len(spec.words) == 1 else (len(spec.labels),)  # or a probability of the one word
    require(y.size in sizes, y.name, f"the spec has {len(spec.labels)} labels, the model {y.size} outputs")
    return graph
