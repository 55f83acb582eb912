"""An ONNX file with QuantizeLinear / DequantizeLinear nodes -> Graph. Scales are taken bit for bit, never computed.

Each layer ends at the QuantizeLinear behind it; NCHW becomes NHWC on the way. Untrusted bytes give one ConvertError.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from converter.check import check, check_spec
from converter.graph import ConvertError, Graph
from converter.onnx_qdq.operators import LAYERS, SUPPORTED
from converter.onnx_qdq.qdq import Walk
from converter.onnx_qdq.values import Attributes, Constant, array_of


def read_onnx(data: bytes) -> Graph:
    """The checked Graph of an ONNX file's bytes; its tensors carry the names of the QuantizeLinear outputs."""
    model = _parse(data)
    walk = Walk()
    for tensor in model.graph.initializer:
        walk.values[tensor.name] = Constant(array_of(tensor))
    walk.input_value(model.graph)
    for index, node in enumerate(model.graph.node):
        name = "".join(c if c.isprintable() else "?" for c in node.name[:200]) or f"{node.op_type[:50]} {index}"
        convert = LAYERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if convert is None:
            kind = f"{node.domain}.{node.op_type}"[:80].lstrip(".")
            raise ConvertError(f"{name}: {kind} is not supported; the supported operators are {SUPPORTED}")
        if not node.output or (not node.input and node.op_type != "Constant"):
            raise ConvertError(f"{name}: has no input or no output; export the model again")
        walk.values[node.output[0]] = convert(walk, name, node, Attributes(name, node))
    return check_spec(check(walk.finish(model)))


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's DecodeError has no public base
        raise ConvertError("not an ONNX file, or a truncated one; export the model again") from None
    if not model.graph.node:
        raise ConvertError("not an ONNX model: it has no nodes; export the model again")
    if any(not isinstance(name, str) for name in _names(model)):  # protobuf hands out bytes where a string is no UTF-8
        raise ConvertError("damaged ONNX file: a name in it is not UTF-8; export the model again")
    return model


def _names(model: onnx.ModelProto) -> Iterator[object]:
    """Every string that the walk reads."""
    graph = model.graph
    for item in (*graph.initializer, *graph.input, *graph.output):
        yield item.name
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
