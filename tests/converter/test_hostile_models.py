"""Model files made to break their readers: one sentence or a checked Graph, in memory and time bounded by the file."""

from __future__ import annotations

import re
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from qdq_models import Qdq, tinyconv

from converter import convert
from converter.errors import ConvertError
from converter.graph import Graph
from converter.onnx_qdq.reader import read_onnx
from converter.operators.fully_connected import FullyConnected
from converter.operators.max_pool2d import MaxPool2D
from converter.size import model_size
from converter.target import NRF52840
from converter.tensor import QuantParams, Tensor
from converter.tflite import schema
from converter.tflite.reader import read_tflite
from converter.tflite.writer import _Writer, write_tflite

ROOT = Path(__file__).resolve().parents[2]
HOSTILE_ARRAYS: tuple[NDArray[Any], ...] = (
    np.zeros((), np.int8),
    np.zeros((1, 1), np.int8),
    np.zeros((2, 2), np.uint8),
    np.zeros(0, np.float32),
    np.full((1, 1, 1), np.nan, np.float32),
    np.full(3, -np.inf, np.float32),
    np.full(1, 1e-45, np.float32),
    np.array([2**62, -(2**62), -1], np.int64),
    np.array(["text"], object),
    np.array([True, False]),
    np.zeros(4, np.complex64),
    np.zeros(3, np.float64),
    np.zeros((1, 2, 3, 4, 5, 6), np.int8),
    np.zeros((0, 3), np.int32),
)
HOSTILE_ATTRIBUTES: tuple[Any, ...] = (0, -1, 2**62, 1.5, float("nan"), "SAME_UPPER", [], [0], [-1] * 4, [1.5], ["a"])
KINDS = ("Relu", "Clip", "Add", "Flatten", "Reshape", "Squeeze", "Transpose", "Pad", "Conv", "MatMul", "Gemm")


def several_kinds() -> bytes:
    """A model with a node of most kinds that name sizes, axes or bounds."""
    q = Qdq((1, 2, 13, 11))
    padded = q.node("Pad", [q.input(), q.constant("pads", np.array([0, 0, 1, 1, 0, 0, 2, 1], np.int64))], "zeros")
    q.scales[padded] = 0.05
    conv = q.conv(padded, "conv", (4, 2, 4, 3), strides=[2, 2])
    clipped = q.node("Clip", [conv, q.constant("low", np.float32(0)), q.constant("high", np.float32(6))], "clip")
    pooled = q.qdq(clipped, "conv", 0.1, -128)
    x = q.node("MaxPool", [pooled], "pool", kernel_shape=[2, 2], strides=[2, 2])
    mean = q.qdq(q.node("GlobalAveragePool", [x], "mean"), "mean", 0.1, -128)
    row = q.node("Reshape", [mean, q.constant("row", np.array([0, -1], np.int64))], "flat")
    q.scales[row] = 0.1
    return q.file(q.softmax(q.qdq(q.gemm(row, "dense", (4, 4)), "logits", 20.0, 10)))


def onnx_mutants(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(what was done, file): every initialiser, attribute, operand and dimension of a model made wrong in turn."""
    whole = onnx.load_model_from_string(data).graph

    def copy() -> onnx.ModelProto:
        return onnx.load_model_from_string(data)

    for index, tensor in enumerate(whole.initializer):
        for array in HOSTILE_ARRAYS:
            model = copy()
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(array, tensor.name))
            yield f"{tensor.name} {array.dtype} {array.shape}", model.SerializeToString()
        for dims in ([-1], [2**62, 2**62], [2**24, 1], [0]):
            model = copy()
            model.graph.initializer[index].dims[:] = dims
            yield f"{tensor.name} {dims}", model.SerializeToString()
    for index, node in enumerate(whole.node):
        keys = {attribute.name for attribute in node.attribute} | {"axis", "axes", "pads", "perm", "keepdims", "min"}
        for key in sorted(keys):
            for value in HOSTILE_ATTRIBUTES:
                model = copy()
                kept = [attribute for attribute in node.attribute if attribute.name != key]
                made = helper.make_attribute(key, value, attr_type=onnx.AttributeProto.INTS if value == [] else None)
                del model.graph.node[index].attribute[:]
                model.graph.node[index].attribute.extend([*kept, made])
                yield f"{node.name} {key}={value}", model.SerializeToString()
        for other in ("", "nowhere", *node.output, whole.input[0].name, whole.initializer[0].name):
            for place in range(len(node.input)):
                model = copy()
                model.graph.node[index].input[place] = other
                yield f"{node.name} input {place} = {other}", model.SerializeToString()
        for kind in KINDS:
            model = copy()
            model.graph.node[index].op_type = kind
            yield f"{node.name} as {kind}", model.SerializeToString()
    for size in (0, -1, 2**40, 2**62):
        model = copy()
        model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value = size
        yield f"input {size}", model.SerializeToString()


@pytest.mark.parametrize("make", [tinyconv, several_kinds])
def test_every_part_of_an_onnx_file_made_wrong_is_refused_or_read(make: Callable[[], bytes]) -> None:
    assert read_onnx(make()).layers
    refused = made = 0
    for what, data in onnx_mutants(make()):
        made += 1
        try:
            graph = read_onnx(data)
        except ConvertError as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) < 600, what
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
        else:
            assert graph.layers, what
    assert made > 1500 and refused > 800


def test_a_zero_point_of_two_dimensions_is_refused() -> None:
    """A zero point of as many values as scales, in another shape."""
    model = onnx.load_model_from_string(tinyconv())
    name = next(node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear")
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((1, 1), np.int8), name))
    with pytest.raises(ConvertError, match=r"integer zero points as scales, got int8 of shape \(1, 1\)"):
        read_onnx(model.SerializeToString())


class SharingWriter(_Writer):
    """Writes equal constants once, however many layers take them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.known: dict[bytes, int] = {}

    def _constant(self, name: str, values: NDArray[Any], kind: int, quant: QuantParams | None) -> int:
        key = bytes([kind]) + values.tobytes()
        if key not in self.known:
            self.known[key] = super()._constant(name, values, kind, quant)
        return self.known[key]


def dense_graph(layers: int, width: int, scales: int = 1) -> Graph:
    """Dense layers of one weight array."""
    quant, weight_quant = (
        QuantParams((0.5,), (0,)),
        QuantParams((0.001,) * scales, (0,) * scales, 0 if scales > 1 else None),
    )
    weights, bias = np.ones((width, width), np.int8), np.zeros(width, np.int32)
    tensors = tuple(Tensor(f"t{index}", (1, width), quant) for index in range(layers + 1))
    made = [FullyConnected(f"t{i + 1}", i, i + 1, weights, weight_quant, bias, "NONE") for i in range(layers)]
    return Graph(tensors, tuple(made), 0, layers)


def dense_onnx(layers: int, width: int) -> bytes:
    """The same as ONNX: one initialiser behind as many DequantizeLinear nodes."""
    constants = {"w": np.ones((width, width), np.int8), "s": np.float32(0.01), "z": np.int8(0)}
    nodes, x = [], "x"
    for index in range(layers):
        nodes.append(helper.make_node("QuantizeLinear", [x, "s", "z"], [f"q{index}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{index}", "s", "z"], [f"d{index}"]))
        nodes.append(helper.make_node("DequantizeLinear", ["w", "s", "z"], [f"w{index}"]))
        x = f"y{index}"
        nodes.append(helper.make_node("MatMul", [f"d{index}", f"w{index}"], [x]))
    nodes.append(helper.make_node("QuantizeLinear", [x, "s", "z"], ["q"]))
    nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["out"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("x", "out")]
    kept = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    return bytes(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], kept)).SerializeToString())


def field_of(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    length, size = len(content), b""
    while True:
        size += bytes([length & 127 | (128 if length > 127 else 0)])
        length >>= 7
        if not length:
            return bytes([number << 3 | 2]) + size + content


def list_everywhere() -> bytes:
    """A .tflite whose lists of tensors, operators, buffers and codes are one list of 400,000 offsets to one table."""
    builder = flatbuffers.Builder(1024)
    builder.StartVector(4, 400_000, 4)
    builder.head -= 1_600_000
    builder.Bytes[builder.head : builder.head + 1_600_000] = struct.pack("<I", 1_600_000) * 400_000
    everything = builder.EndVector()
    builder.StartObject(5)
    for number in (schema.SubGraph.TENSORS, schema.SubGraph.INPUTS, schema.SubGraph.OUTPUTS, schema.SubGraph.OPERATORS):
        builder.PrependUOffsetTRelativeSlot(number, everything, 0)
    subgraph = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    builder.StartObject(7)
    builder.PrependUint32Slot(schema.Model.VERSION, schema.SCHEMA_VERSION, 0)
    for number in (schema.Model.OPERATOR_CODES, schema.Model.BUFFERS, schema.Model.METADATA):
        builder.PrependUOffsetTRelativeSlot(number, everything, 0)
    builder.PrependUOffsetTRelativeSlot(schema.Model.SUBGRAPHS, subgraphs, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())


NODE = b"\x22\x04Relu\x0a\x01a\x12\x01b"
SHARED, NODES = "its parts are shared so often", "at most 20000 nodes"
AMPLIFIED: dict[str, tuple[Callable[[], bytes], str]] = {
    "5,000 layers.tflite": (lambda: SharingWriter(dense_graph(5000, 8)).file(), "at most 1000 layers"),
    "900 layers of one buffer.tflite": (lambda: SharingWriter(dense_graph(900, 1024)).file(), SHARED),
    "900 layers of 1,000 scales.tflite": (lambda: SharingWriter(dense_graph(900, 1000, 1000)).file(), SHARED),
    "990 layers.tflite": (lambda: write_tflite(dense_graph(990, 8)), ""),
    "5 layers of one buffer.tflite": (lambda: SharingWriter(dense_graph(5, 1300)).file(), ""),
    "one list for all.tflite": (list_everywhere, f"{SHARED}|damaged"),
    "900 layers of one initialiser.onnx": (lambda: dense_onnx(900, 1200), SHARED),
    "2,000 layers.onnx": (lambda: dense_onnx(2000, 16), "at most 1000 layers"),
    "a million nodes.onnx": (lambda: field_of(7, b"\x0a\x00" * 1_000_000), NODES),
    "a million constants.onnx": (lambda: field_of(7, b"\x2a\x00" * 1_000_000), NODES),
    "a million attributes.onnx": (lambda: field_of(7, field_of(1, NODE + b"\x2a\x00" * 1_000_000)), "100 attributes"),
}
CONVERTS = """
import resource, sys
from pathlib import Path
from converter import convert
from converter.errors import ConvertError
try:
    convert.render(convert.load(Path(sys.argv[1])))
except ConvertError as error:
    print(error)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory by /proc")
@pytest.mark.parametrize("name", AMPLIFIED)
def test_a_small_file_takes_little_memory_and_time(name: str, tmp_path: Path) -> None:
    """At most 500 MB and 10 s of processor for up to 2 MB."""
    make, says = AMPLIFIED[name]
    file = tmp_path / name
    file.write_bytes(make())
    assert file.stat().st_size <= 2_200_000
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", CONVERTS, file], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    *told, peak_kb = done.stdout.splitlines()
    assert len(told) <= 1 and re.search(says, "".join(told)), told
    assert int(peak_kb) < 500_000 and after.ru_utime - before.ru_utime < 10


def test_a_model_of_shared_constants_that_are_few_is_read() -> None:
    graph = read_tflite(SharingWriter(dense_graph(4, 64)).file())
    assert len(graph.layers) == 4 and graph.model_id == read_tflite(write_tflite(dense_graph(4, 64))).model_id


def large(memory: str) -> Graph:
    """A model that needs more than all flash or all RAM."""
    quant = QuantParams((0.5,), (0,))
    if memory == "RAM":
        tensors = tuple(Tensor(f"t{index}", (1, size, 50, 60), quant) for index, size in enumerate((100, 50)))
        return Graph(tensors, (MaxPool2D("pool", 0, 1, (2, 1), (2, 1), "VALID", "NONE"),), 0, 1)
    graph, rng = dense_graph(4, 600), np.random.default_rng(0)
    layers = [replace(layer, weights_oi=rng.integers(-127, 128, (600, 600)).astype(np.int8)) for layer in graph.layers]
    return replace(graph, layers=tuple(layers))


@pytest.mark.parametrize(("memory", "has"), [("flash", NRF52840.flash_bytes), ("RAM", NRF52840.ram_bytes)])
def test_a_model_too_large_for_the_board_is_refused_with_the_bytes(memory: str, has: int) -> None:
    """By convert, before the compiler; `size` still tells its share."""
    graph = large(memory)
    with pytest.raises(ConvertError) as caught:
        convert.render(convert.Source(graph, "large"))
    figures = rf"at least ([\d,]+) bytes over the {memory} .*: ([\d,]+) bytes of .* and ([\d,]+) of firmware"
    told = re.search(figures, str(caught.value))
    assert told is not None, caught.value
    over, model, beside = (int(group.replace(",", "")) for group in told.groups())
    assert over == model + beside - has > 0
    found = model_size(graph)
    assert model == (found.engine_flash_bytes if memory == "flash" else found.arena_bytes)
