"""Everything that needs TensorFlow, run as a program: it and tflite-runtime crash in one process.

python tensorflow_worker.py OUT writes OUT/NET.tflite, made by TensorFlow's converter from fake_quant nodes, and
OUT/NET.npz with what TensorFlow's interpreter says of the file that our writer wrote, for every network of
fake_quant_nets.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tensorflow as tf
from fake_quant_nets import NETS, inputs_of

from converter.graph import Graph, Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.softmax import Softmax
from converter.tensor import QuantParams
from converter.tflite.writer import write_tflite


def _fake_quant(x: Any, quant: QuantParams) -> Any:
    low, high = ((edge - quant.zero_point) * quant.scale for edge in (-128, 127))
    return tf.quantization.fake_quant_with_min_max_args(x, low, high)


def _real_weights(values: Any, quant: QuantParams) -> Any:
    """Float weights behind TensorFlow's own fake_quant node, whose channels lie along the last axis."""
    limits = np.float32(127) * np.array(quant.scales, np.float32)
    if len(quant.scales) == 1:
        real = tf.constant(values.astype(np.float32) * np.float32(quant.scale))
        return tf.quantization.fake_quant_with_min_max_vars(real, -limits[0], limits[0], narrow_range=True)
    real = tf.constant(values.astype(np.float32) * np.array(quant.scales, np.float32))
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(real, -limits, limits, narrow_range=True)


def _float_layer(graph: Graph, layer: Operator, values: list[Any]) -> Any:
    """One layer in TensorFlow's floats, before the fake_quant of its output."""
    x, x_scale = values[layer.input], graph.tensors[layer.input].quant.scale
    if isinstance(layer, (Conv2D, DepthwiseConv2D, FullyConnected)):
        bias = layer.bias.astype(np.float32) * np.float32(x_scale) * np.array(layer.weight_quant.scales, np.float32)
        if isinstance(layer, Conv2D):
            y = tf.nn.conv2d(
                x,
                _real_weights(layer.weights_ohwi.transpose(1, 2, 3, 0), layer.weight_quant),
                layer.stride_hw,
                layer.padding,
            )
        elif isinstance(layer, DepthwiseConv2D):
            y = tf.nn.depthwise_conv2d(
                x,
                _real_weights(layer.weights_1hwc[0][..., np.newaxis], layer.weight_quant),
                (1, *layer.stride_hw, 1),
                layer.padding,
            )
        else:
            y = tf.matmul(tf.reshape(x, (1, -1)), _real_weights(layer.weights_oi.T, layer.weight_quant))
        y = tf.nn.bias_add(y, bias)
        return tf.nn.relu(y) if layer.activation == "RELU" else y
    if isinstance(layer, Add):
        return tf.nn.relu(x + values[layer.inputs[1]])
    if isinstance(layer, (AveragePool2D, MaxPool2D)):
        pool = tf.nn.avg_pool2d if isinstance(layer, AveragePool2D) else tf.nn.max_pool2d
        return pool(x, layer.window_hw, layer.stride_hw, layer.padding)
    assert isinstance(layer, Softmax)
    return tf.nn.softmax(x)


def by_tensorflow(graph: Graph) -> bytes:
    """TensorFlow's own .tflite of the same network."""

    def network(x: Any) -> Any:
        values: list[Any] = [_fake_quant(x, graph.tensors[0].quant)]
        for layer in graph.layers:
            y = _float_layer(graph, layer, values)
            values.append(y if isinstance(layer, Softmax) else _fake_quant(y, graph.tensors[layer.output].quant))
        return values[graph.output]

    signature = tf.function(network, input_signature=[tf.TensorSpec(graph.tensors[0].shape, tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def run_ours(graph: Graph) -> dict[str, Any]:
    """Our file in TensorFlow's interpreter: the input's quantization as it reads it, and the outputs for a few
    inputs."""
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_REF
    engine = tf.lite.Interpreter(model_content=write_tflite(graph), experimental_op_resolver_type=resolver)
    engine.allocate_tensors()
    source, result = engine.get_input_details()[0], engine.get_output_details()[0]
    outputs = []
    for row in inputs_of(graph, 5):
        engine.set_tensor(source["index"], row[np.newaxis])
        engine.invoke()
        outputs.append(engine.get_tensor(result["index"]))
    return {
        "scale": np.array(source["quantization"][0]),
        "zero_point": np.array(source["quantization"][1]),
        "outputs": np.stack(outputs),
    }


def main(out: Path) -> None:
    for name, make in NETS.items():
        graph = make()
        (out / f"{name}.tflite").write_bytes(by_tensorflow(graph))
        np.savez(out / f"{name}.npz", **run_ours(graph))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
