"""An ONNX file with QuantizeLinear / DequantizeLinear nodes -> Graph. Scales are taken bit for bit, never computed.

Each layer ends at the QuantizeLinear behind it; NCHW becomes NHWC on the way. Untrusted bytes give one ConvertError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from converter.check import check, check_spec
from converter.errors import Budget, ConvertError
from converter.formats.onnx import Array, Constant, OnnxNode
from converter.formats.original import Place
from converter.graph import Graph
from converter.onnx_qdq.patterns import RULES, SUPPORTED
from converter.onnx_qdq.qdq import QdqImporter
from converter.onnx_qdq.qlinear import expanded
from converter.tensor import MAX_ELEMENTS

MAX_ITEMS, MAX_ATTRIBUTES = 20_000, 100


def read_onnx(data: bytes) -> Graph:
    """The checked Graph of an ONNX file's bytes; its tensors carry the names of the QuantizeLinear outputs."""
    return trace_onnx(data)[0]


def trace_onnx(data: bytes) -> tuple[Graph, tuple[Place, ...], tuple[str, ...]]:
    """read_onnx's Graph, which of the file's values its tensors are, the output last, and what is to be said of it."""
    model = _parse(data)
    importer = QdqImporter(Budget(len(data)))
    for tensor in model.graph.initializer:
        importer.values[tensor.name] = Constant(array_of(tensor))
    importer.input_value(model.graph)
    opset = _opset(model)
    for index, (proto, version) in enumerate(expanded(model.graph.node, opset)):
        name = "".join(c if c.isprintable() else "?" for c in proto.name[:200]) or f"{proto.op_type[:50]} {index}"
        rule = RULES.get(proto.op_type) if proto.domain in ("", "ai.onnx") else None
        if rule is None:
            kind = f"{proto.domain}.{proto.op_type}"[:80].lstrip(".")
            raise ConvertError(f"{name}: {kind} is not supported; the supported operators are {SUPPORTED}")
        if not proto.output or not proto.output[0] or (not proto.input and proto.op_type != "Constant"):
            raise ConvertError(f"{name}: has no input or no output; export the model again")
        node = _node(name, proto, version)
        found = rule(importer, node)
        _refuse_unasked(node, proto)
        if proto.output[0] in importer.values:
            raise ConvertError(f"{name}: {proto.output[0][:200]} is computed twice; export the model again")
        importer.values[proto.output[0]] = found
    graph = check_spec(check(importer.finish(model)))
    return graph, tuple(importer.places), tuple(importer.notes)


def _opset(model: onnx.ModelProto) -> int:
    """The version of the operator set that gives the nodes their meaning; raises ConvertError."""
    found = {int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    latest = onnx.defs.onnx_opset_version()
    if len(found) != 1 or not 1 <= min(found) <= latest:
        raise ConvertError(
            f"the model needs one ONNX operator set of 1 to {latest}, got {sorted(found)[:9]}; export the model again"
        )
    if any(function.domain in ("", "ai.onnx") for function in model.functions):
        raise ConvertError("the model gives ONNX operators a meaning of its own (functions); export it without them")
    return found.pop()


def _node(name: str, proto: onnx.NodeProto, opset: int) -> OnnxNode:
    """The node as its operator set defines it: no other attributes, defaults filled in; raises ConvertError."""
    try:
        schema = onnx.defs.get_schema(proto.op_type, opset, "")
    except onnx.defs.SchemaError:
        raise ConvertError(f"{name}: operator set {opset} has no {proto.op_type}; export the model again") from None
    attributes = {
        key: _attribute_value(known.default_value)
        for key, known in schema.attributes.items()
        if known.default_value.type != onnx.AttributeProto.UNDEFINED
    }
    for attribute in proto.attribute:
        if attribute.name not in schema.attributes:
            raise ConvertError(
                f"{name}: {proto.op_type} has no attribute {attribute.name[:80]} in operator set {opset}; export the "
                f"model again"
            )
        attributes[attribute.name] = _attribute_value(attribute)
    if not schema.min_input <= len(proto.input) <= schema.max_input:
        raise ConvertError(
            f"{name}: {proto.op_type} takes {schema.min_input} to {schema.max_input} inputs in operator set {opset}, "
            f"got {len(proto.input)}"
        )
    return OnnxNode(name, proto.op_type, tuple(proto.input), tuple(proto.output), attributes, opset)


def _refuse_unasked(node: OnnxNode, proto: onnx.NodeProto) -> None:
    """Raises ConvertError where a node says more than its rule looked at: it would be read as another node."""
    schema = onnx.defs.get_schema(node.op_type, node.opset, "")
    for attribute in proto.attribute:
        default = schema.attributes[attribute.name].default_value
        is_default = default.type == attribute.type and _attribute_value(default) == node.attributes[attribute.name]
        if attribute.name not in node.asked and not is_default:
            raise ConvertError(f"{node.name}: attribute {attribute.name} of {node.op_type} is not supported")
    for index, operand in enumerate(node.inputs):
        if operand and index not in node.asked:
            raise ConvertError(f"{node.name}: input {index} ({operand[:200]}) of {node.op_type} is not supported")


def _attribute_value(attribute: onnx.AttributeProto) -> Any:
    """As a Python value; of kinds that no rule reads the message itself."""
    match attribute.type:
        case onnx.AttributeProto.INT:
            return int(attribute.i)
        case onnx.AttributeProto.FLOAT:
            return float(attribute.f)
        case onnx.AttributeProto.INTS:
            return tuple(int(value) for value in attribute.ints)
        case onnx.AttributeProto.FLOATS:
            return np.array(attribute.floats, np.float32)
        case onnx.AttributeProto.STRING:
            return bytes(attribute.s).decode("utf-8", "replace")
        case onnx.AttributeProto.TENSOR:
            return array_of(attribute.t)
        case _:
            return attribute


def array_of(tensor: onnx.TensorProto) -> Array:
    """The numbers of an initialiser; raises ConvertError when they are elsewhere or do not fit its shape."""
    where = tensor.name[:200] or "an initialiser"
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ConvertError(f"{where}: its data lies in another file; save the model in one file")
    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > MAX_ELEMENTS:
        raise ConvertError(f"{where}: shape {tuple(tensor.dims)} is not supported")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise ConvertError(f"{where}: damaged ({' '.join(str(error).split())[:200]}); export the model again") from None


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's DecodeError has no public base
        raise ConvertError("not an ONNX file, or a truncated one; export the model again") from None
    graph = model.graph
    counts = [len(items) for items in (graph.node, graph.initializer, graph.input, graph.output, model.metadata_props)]
    if max(counts) > MAX_ITEMS:
        raise ConvertError(f"the model has at most {MAX_ITEMS} nodes or constants, got {max(counts)}; convert another")
    if any(len(node.attribute) > MAX_ATTRIBUTES for node in graph.node):
        raise ConvertError(f"a node has at most {MAX_ATTRIBUTES} attributes, and one has more; export the model again")
    if not graph.node:
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
