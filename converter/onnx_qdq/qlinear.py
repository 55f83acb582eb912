"""Operators that compute with int8 numbers (QLinearConv and its like, as onnxruntime's QOperator format writes them),
read as the operator they stand for between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx
from onnx import helper

from converter.errors import ConvertError

CONTRIBUTED = "com.microsoft"
AXES = 13  # the operator set from which on scales may lie along an axis


@dataclass(frozen=True)
class Form:
    """What an operator stands for: operands (first, scale, zero point) at `quantized`, the output's scale at `output`
    with its zero point behind it, and perhaps an int32 bias; axes along which the scales of each operand lie."""

    op_type: str
    quantized: tuple[int, ...]
    output: int
    bias: int | None = None
    axes: tuple[int, ...] = (1, 1)


FORMS: dict[tuple[str, str], Form] = {
    ("", "QLinearConv"): Form("Conv", (0, 3), 6, 8, (1, 0)),
    ("", "QLinearMatMul"): Form("MatMul", (0, 3), 6),
    (CONTRIBUTED, "QGemm"): Form("Gemm", (0, 3), 7, 6),
    (CONTRIBUTED, "QLinearAdd"): Form("Add", (0, 3), 6),
    (CONTRIBUTED, "QLinearMul"): Form("Mul", (0, 3), 6),
    (CONTRIBUTED, "QLinearAveragePool"): Form("AveragePool", (0,), 3),
    (CONTRIBUTED, "QLinearGlobalAveragePool"): Form("GlobalAveragePool", (0,), 3),
    (CONTRIBUTED, "QLinearSoftmax"): Form("Softmax", (0,), 3),
}
SAME_AS_ONNX = ("QuantizeLinear", "DequantizeLinear")  # with more types in the other domain


def expanded(nodes: Iterable[onnx.NodeProto], opset: int) -> Iterator[tuple[onnx.NodeProto, int]]:
    """The nodes with those of FORMS taken apart, each with the operator set that gives it its meaning; raises
    ConvertError."""
    for proto in nodes:
        form = FORMS.get(("" if proto.domain == "ai.onnx" else proto.domain, proto.op_type))
        if form is not None:
            yield from _parts(proto, form, opset)
        elif proto.domain == CONTRIBUTED and proto.op_type in SAME_AS_ONNX:
            same = onnx.NodeProto()
            same.CopyFrom(proto)
            same.domain = ""
            yield same, max(opset, AXES)
        else:
            yield proto, opset


def _parts(proto: onnx.NodeProto, form: Form, opset: int) -> Iterator[tuple[onnx.NodeProto, int]]:
    name = proto.name[:200] or f"{proto.op_type} {proto.output[0] if proto.output else ''}"[:200]
    inputs = list(proto.input)
    last = max(form.output + 1, form.bias or 0)
    if not form.output < len(inputs) <= last + 1 or len(proto.output) != 1 or not all(inputs[: form.output - 1]):
        raise ConvertError(f"{name}: {proto.op_type} has the wrong number of inputs or outputs; export the model again")
    inputs += [""] * (last + 1 - len(inputs))
    if not inputs[form.output]:
        raise ConvertError(f"{name}: has no output scale, so that its output is float; export a model of 8 bits")
    operands = []
    turned = any(item.name == "transB" and item.i for item in proto.attribute)
    for at, axis in zip(form.quantized, form.axes, strict=False):
        operands.append(f"{proto.output[0]}//{at}")
        along = 0 if at and turned else axis
        dequantize = helper.make_node("DequantizeLinear", _given(inputs[at : at + 3]), [operands[-1]], name=name)
        dequantize.attribute.append(helper.make_attribute("axis", along))
        yield dequantize, max(opset, AXES)
    if form.bias is not None and inputs[form.bias]:
        operands.append(inputs[form.bias])
    real = f"{proto.output[0]}//y"
    middle = helper.make_node(form.op_type, operands, [real], name=name)
    middle.attribute.extend(item for item in proto.attribute if not _says_nothing(item, opset))
    yield middle, max(opset, AXES) if form.op_type == "Gemm" else opset  # which knows a Gemm without a bias
    scale = _given([real, inputs[form.output], inputs[form.output + 1]])
    yield helper.make_node("QuantizeLinear", scale, [proto.output[0]], name=name), max(opset, AXES)


def _given(inputs: list[str]) -> list[str]:
    """Without a last operand that is left out."""
    return inputs if inputs[-1] else inputs[:-1]


def _says_nothing(attribute: onnx.AttributeProto, opset: int) -> bool:
    """Attributes of the other domain that say what ONNX's operator does anyway."""
    if attribute.name == "channels_last":
        return attribute.i == 0
    return attribute.name == "opset" and (attribute.i < 13) == (opset < 13)
