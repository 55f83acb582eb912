"""QDQ ONNX models written by hand with onnx.helper, as an exporter could write them; for tests of the ONNX reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from converter.spec import KwsSpec

Array = NDArray[Any]
SPEC = KwsSpec.of_words(["yes", "stop"])
SCORES = (1 / 256, -128)


class Qdq:
    """Nodes appended one after the other; every method gives back the name of its float output."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0, opset: int = 18) -> None:
        self.rng, self.opset = np.random.default_rng(seed), opset
        self.input_type = onnx.TensorProto.FLOAT
        self.shape, self.nodes, self.initializers = shape, list[onnx.NodeProto](), list[onnx.TensorProto]()
        self.metadata: dict[str, str] = {}
        self.scales: dict[str, float] = {}
        self.unsigned = self.unsigned_weights = False

    def constant(self, name: str, value: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_y"], name=name, **attributes))
        return f"{name}_y"

    def qdq(self, x: str, name: str, scale: float | None = None, zero_point: int | None = None) -> str:
        scale = float(np.float32(self.rng.uniform(0.02, 0.1))) if scale is None else scale
        zero_point = int(self.rng.integers(-128, 128)) if zero_point is None else zero_point
        zero = np.uint8(zero_point + 128) if self.unsigned else np.int8(zero_point)
        params = [self.constant(f"{name}_scale", np.float32(scale)), self.constant(f"{name}_zero", zero)]
        self.nodes.append(helper.make_node("QuantizeLinear", [x, *params], [f"{name}_q"], name=f"{name}_quantize"))
        self.nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}_q", *params], [f"{name}_real"], name=f"{name}_dequantize")
        )
        self.scales[f"{name}_real"] = float(np.float32(scale))
        return f"{name}_real"

    def input(self, scale: float = 0.05, zero_point: int = 3) -> str:
        return self.qdq("x", "x", scale, zero_point)

    def weights(
        self, name: str, shape: tuple[int, ...], axis: int | None = 0, as_float: bool = False
    ) -> tuple[str, Array]:
        """(name of the dequantized weights, their scales)."""
        count = 1 if axis is None else shape[axis]
        scales = self.rng.uniform(0.002, 0.02, count).astype(np.float32)
        zero = np.uint8(128) if self.unsigned_weights else np.int8(0)
        params = [
            self.constant(f"{name}_scale", scales if axis is not None else scales[0]),
            self.constant(f"{name}_zero", np.full(count, zero) if axis is not None else zero),
        ]
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        source = self.constant(name, (values.astype(np.int16) + int(zero)).astype(zero.dtype))
        if as_float:
            spread = (
                scales.reshape([-1 if i == axis else 1 for i in range(len(shape))]) if axis is not None else scales[0]
            )
            source = f"{name}_int8"
            self.constant(f"{name}_float", (values * spread).astype(np.float32))
            self.nodes.append(helper.make_node("QuantizeLinear", [f"{name}_float", *params], [source], **attributes))
        self.nodes.append(helper.make_node("DequantizeLinear", [source, *params], [f"{name}_real"], **attributes))
        return f"{name}_real", scales

    def bias(self, name: str, x: str, scales: Array, channels: int) -> str:
        values = self.rng.integers(-3000, 3000, channels).astype(np.int32)
        product = (np.float32(self.scales[x]) * np.broadcast_to(scales, channels)).astype(np.float32)
        if self.opset < 13:  # knows no scales per channel
            assert len(scales) == 1
            params = [self.constant(f"{name}_scale", product[0]), self.constant(f"{name}_zero", np.int32(0))]
        else:
            zeros = np.zeros(channels, np.int32)
            params = [self.constant(f"{name}_scale", product), self.constant(f"{name}_zero", zeros)]
        axis: dict[str, Any] = {"axis": 0} if self.opset >= 13 else {}
        self.nodes.append(
            helper.make_node("DequantizeLinear", [self.constant(name, values), *params], [f"{name}_real"], **axis)
        )
        return f"{name}_real"

    def conv(
        self,
        x: str,
        name: str,
        shape_oihw: tuple[int, ...],
        axis: int | None = 0,
        as_float: bool = False,
        **attributes: Any,
    ) -> str:
        weights, scales = self.weights(f"{name}_weights", shape_oihw, axis, as_float)
        bias = self.bias(f"{name}_bias", x, scales, shape_oihw[0])
        return self.node("Conv", [x, weights, bias], name, **attributes)

    def gemm(self, x: str, name: str, shape_oi: tuple[int, int], trans_b: bool = True, axis: int | None = 0) -> str:
        shape, out_axis = (shape_oi, 0) if trans_b else (shape_oi[::-1], 1)
        weights, scales = self.weights(f"{name}_weights", shape, None if axis is None else out_axis)
        return self.node(
            "Gemm", [x, weights, self.bias(f"{name}_bias", x, scales, shape_oi[0])], name, transB=int(trans_b)
        )

    def softmax(self, x: str) -> str:
        return self.qdq(self.node("Softmax", [x], "softmax", axis=-1), "scores", *SCORES)

    def model(self, output: str) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info("x", self.input_type, self.shape)]
        whole = onnx.TensorProto.UINT8 if self.unsigned else onnx.TensorProto.INT8
        kind = whole if output.endswith("_q") else onnx.TensorProto.FLOAT
        outputs = [helper.make_tensor_value_info(output, kind, None)]
        graph = helper.make_graph(self.nodes, "qdq", inputs, outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        helper.set_model_props(model, self.metadata)
        return model

    def file(self, output: str) -> bytes:
        data: bytes = self.model(output).SerializeToString(deterministic=True)
        return data


def flat(q: Qdq, x: str, style: str, chw: tuple[int, int, int]) -> str:
    """Three ways to make one row of a feature map; only the second keeps NHWC order."""
    if style == "flatten":
        return q.node("Flatten", [x], "flat", axis=1)
    row = q.constant("flat_shape", np.array([1, -1] if style == "reshape" else [1, int(np.prod(chw))], np.int64))
    if style == "nhwc":
        x = q.node("Transpose", [x], "nhwc", perm=[0, 2, 3, 1])
    return q.node("Reshape", [x, row], "flat")


def tinyconv() -> bytes:
    """TinyConv with random weights, as `trainer export` writes it."""
    q = Qdq((1, 1, 49, 40))
    conv = q.conv(q.input(26 / 256, -128), "conv", (8, 1, 10, 8), strides=[2, 2], pads=[4, 3, 5, 3])
    x = flat(q, q.qdq(q.node("Relu", [conv], "relu"), "conv", 0.3, -128), "nhwc", (8, 25, 20))
    q.scales[x] = q.scales["conv_real"]
    q.metadata = {"kws_spec": SPEC.to_json(), "spec_id": SPEC.spec_id}
    return q.file(q.softmax(q.qdq(q.gemm(x, "dense", (4, 4000), axis=None), "logits", 20.0, 10)))
