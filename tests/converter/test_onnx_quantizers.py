"""What the quantizer of onnxruntime writes, and operators that compute with int8 numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_forms import clip, floats, kinds, right
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from qdq_models import Qdq

from converter.errors import ConvertError
from converter.onnx_qdq.reader import read_onnx


def qlinear(kind: str, q: Qdq, operands: list[str], name: str, scale: float, zero: int, **attributes: object) -> str:
    """A node that computes with int8 numbers; the name of its int8 output."""
    params = [q.constant(f"{name}_scale", np.float32(scale)), q.constant(f"{name}_zero", np.int8(zero))]
    bias = [operands.pop()] if operands[-1].endswith("int32") else []
    if kind == "QLinearConv":
        inputs = [*operands, *params, *bias]
    else:
        inputs = [*operands, *(bias or [""] if kind == "QGemm" else []), *params]
    domain = "" if kind in ("QLinearConv", "QLinearMatMul") else "com.microsoft"
    return q.node(kind, inputs, name, domain=domain, **attributes)


def numbers(q: Qdq, name: str, shape: tuple[int, ...], channels: int) -> list[str]:
    """Weights with their scales, one per channel, and zero points."""
    values = q.rng.integers(-127, 128, shape).astype(np.int8)
    scales = q.rng.uniform(0.005, 0.01, channels).astype(np.float32)
    shown = scales if channels > 1 else scales[0]
    zeros = np.zeros(channels, np.int8) if channels > 1 else np.int8(0)
    parts = (("", values), ("_scale", shown), ("_zero", zeros))
    return [q.constant(f"{name}{part}", value) for part, value in parts]


def int8_conv(q: Qdq, _: str) -> str:
    x = ["x_q", "x_scale", "x_zero"]
    bias = q.constant("b_int32", q.rng.integers(-900, 900, 4).astype(np.int32))
    y = qlinear("QLinearConv", q, [*x, *numbers(q, "w", (4, 4, 3, 3), 4), bias], "conv", 0.1, 5)
    if q.opset >= 12:  # which takes int8 numbers
        y = q.node("MaxPool", [y], "pool", kernel_shape=[2, 2])
    y = qlinear("QLinearGlobalAveragePool", q, [y, "conv_scale", "conv_zero"], "mean", 0.05, 0, channels_last=0)
    y = q.node("Flatten", [y], "flat")
    kernel = numbers(q, "k", (3, 4), 3)
    y = qlinear("QGemm", q, [y, "mean_scale", "mean_zero", *kernel], "dense", 0.03, -4, transB=1)
    y = qlinear("QLinearSoftmax", q, [y, "dense_scale", "dense_zero"], "scores", 1 / 256, -128, axis=-1, opset=q.opset)
    return q.node("DequantizeLinear", [y, "scores_scale", "scores_zero"], "end")


def int8_rows(q: Qdq, _: str) -> str:
    x = ["x_q", "x_scale", "x_zero"]
    y = qlinear("QLinearMatMul", q, [*x, *numbers(q, "w", (6, 4), 4 if q.opset >= 21 else 1)], "rows", 0.1, 5)
    z = qlinear("QLinearMul", q, [y, "rows_scale", "rows_zero"] * 2, "square", 0.3, 0)
    return qlinear("QLinearAdd", q, [y, "rows_scale", "rows_zero", z, "square_scale", "square_zero"], "sum", 0.4, 0)


@pytest.mark.parametrize("opset", [10, 13, 21])
def test_operators_that_compute_with_int8_numbers(opset: int) -> None:
    q = Qdq((1, 4, 6, 6), seed=4, opset=opset)
    graph = right(contributed(q, int8_conv(q, q.input())))
    pools = ["MaxPool2D"] if opset >= 12 else []
    assert kinds(graph) == ["Conv2D", *pools, "Mean", "FullyConnected", "Softmax"]
    q = Qdq((1, 6), seed=4, opset=opset)
    assert kinds(right(contributed(q, int8_rows(q, q.input())))) == ["FullyConnected", "Mul", "Add"]


def contributed(q: Qdq, output: str) -> bytes:
    """A file with operators of onnxruntime's own."""
    model = q.model(output)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    if not output.startswith("end"):
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT8
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize("wrong", ["too few", "no output scale", "channels last"])
def test_int8_operators_of_other_forms_are_refused(wrong: str) -> None:
    q = Qdq((1, 4, 6, 6), seed=4)
    output = int8_conv(q, q.input())
    node = next(
        node for node in q.nodes if node.op_type == ("QGemm" if "scale" in wrong else "QLinearGlobalAveragePool")
    )
    if wrong == "too few":
        del node.input[2:]
    elif wrong == "no output scale":
        node.input[6:] = ["", "", ""]
    else:
        node.attribute[0].i = 1
    sentence = {"too few": "wrong number of inputs", "channels last": "no attribute channels_last"}
    with pytest.raises(
        ConvertError, match=sentence.get(wrong, "dense: has no output scale, so that its output is float")
    ):
        read_onnx(contributed(q, output))


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """A few inputs of noise."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        noise = [rng.normal(size=(1, 1, 24, 20)).astype(np.float32) for _ in range(4)]
        self.left: list[dict[str, object]] = [{"x": x} for x in noise]

    def get_next(self) -> dict[str, object] | None:
        return self.left.pop() if self.left else None


def float_net(opset: int) -> onnx.ModelProto:
    """Convolution, depthwise convolution, 1 x 1 with ReLU6, max pool, global average pool, dense layer, Softmax."""
    q = Qdq((1, 1, 24, 20), seed=9, opset=opset)

    def conv(x: str, name: str, shape: tuple[int, ...], **attributes: object) -> str:
        spread = float(1 / np.sqrt(np.prod(shape[1:])))
        parts = [floats(q, f"{name}_w", shape, -2 * spread, 2 * spread), floats(q, f"{name}_b", shape[:1])]
        return q.node("Gemm" if len(shape) == 2 else "Conv", [x, *parts], name, **attributes)

    x = q.node("Relu", [conv("x", "a", (8, 1, 5, 4), pads=[2, 1, 2, 1], strides=[2, 2])], "r1")
    x = q.node("Relu", [conv(x, "b", (8, 1, 3, 3), pads=[1, 1, 1, 1], group=8)], "r2")
    x = q.node("MaxPool", [clip(q, conv(x, "c", (12, 8, 1, 1)), 0, 6)], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = q.node("Flatten", [q.node("GlobalAveragePool", [x], "mean")], "flat")
    y = q.node("Softmax", [conv(x, "dense", (4, 12), transB=1)], "scores", axis=-1)
    model = q.model(y)
    model.graph.output[0].type.tensor_type.shape.dim.extend(
        onnx.TensorShapeProto.Dimension(dim_value=n) for n in (1, 4)
    )
    return model


QUANTIZERS: dict[str, dict[str, object]] = {
    "defaults": {},
    "per channel": {"per_channel": True},
    "symmetric": {"extra_options": {"ActivationSymmetric": True}},
    "weights in float": {"extra_options": {"AddQDQPairToWeight": True, "DedicatedQDQPair": True}},
    "unsigned, of reduced range": {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QUInt8,
        "reduce_range": True,
    },
    "int8 operators": {"quant_format": QuantFormat.QOperator, "per_channel": True},
}


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_what_the_quantizer_of_onnxruntime_writes(name: str, opset: int, tmp_path: Path) -> None:
    onnx.save(float_net(opset), tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Calibration(), **QUANTIZERS[name])
    found = kinds(right((tmp_path / "int8.onnx").read_bytes()))
    assert {"Conv2D", "DepthwiseConv2D", "MaxPool2D", "Mean", "FullyConnected", "Softmax"} <= set(found)
