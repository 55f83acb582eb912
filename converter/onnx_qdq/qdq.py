"""The importer's state: what each ONNX value is, and the Graph built so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import onnx

from converter.check import check_layers
from converter.errors import Budget, ConvertError
from converter.formats.onnx import (
    NO_BOUNDS,
    NO_PADS,
    Array,
    Constant,
    Layout,
    OnnxNode,
    PendingLayer,
    Quantized,
    Real,
    Value,
    activation_of,
    stored_order,
    stored_shape,
)
from converter.formats.original import HOW, Place
from converter.graph import Graph, Operator, layer_name, with_fields
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.logistic import Logistic
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.pad import Pad
from converter.operators.pool import SCALE_TOLERANCE
from converter.operators.quantize import Quantize
from converter.operators.relu import Relu
from converter.operators.relu6 import Relu6
from converter.operators.reshape import Reshape
from converter.operators.softmax import SCORES, Softmax
from converter.operators.tanh import Tanh
from converter.operators.transpose import Transpose
from converter.spec import KwsSpec, SpecError
from converter.tensor import QuantParams, Tensor

READ_PER_CHANNEL = ("DequantizeLinear", "Conv")
FINEST = 1.5  # steps of an output to one that was rounded before: from 2 on two roundings may lie two steps apart
TYPES = {int(onnx.TensorProto.INT8): "int8", int(onnx.TensorProto.UINT8): "uint8"}


@dataclass
class QdqImporter:
    """What each name stands for and the graph built so far, while the nodes are taken in order; an Importer."""

    budget: Budget
    values: dict[str, Value] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    layers: list[Operator] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)  # the tensors that are values of the file
    materialized: dict[Quantized, Quantized] = field(default_factory=dict)
    unquantized: dict[str, Quantized] = field(default_factory=dict)  # layers that keep the grid without Q/DQ nodes
    input_layout: Layout = "plain"
    notes: dict[str, None] = field(default_factory=dict)  # in order, each once

    def input_value(self, graph: onnx.GraphProto) -> None:
        """Enters the model's one input, [1, ...] float32; raises ConvertError."""
        inputs = [info for info in graph.input if info.name not in self.values]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ConvertError(
                f"the model must have one input and one output, got {len(inputs)} and {len(graph.output)}"
            )
        info = inputs[0]
        dims = info.type.tensor_type.shape.dim
        shape = tuple(
            int(d.dim_value) if d.HasField("dim_value") else 1 if axis == 0 else -1 for axis, d in enumerate(dims)
        )
        if not shape or any(size < 1 for size in shape):
            raise ConvertError(f"{info.name[:200]}: the input's shape is dynamic; export the model with fixed sizes")
        kind = TYPES.get(info.type.tensor_type.elem_type, "float32")
        if kind == "uint8":
            self.note(f"the input is uint8 in the file, int8 here: {HOW['uint8']}")
        if graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            self.note(f"the output is uint8 in the file, int8 here: {HOW['uint8']}")
        self.input_layout = _input_layout(graph, info.name, len(shape))
        self.values[info.name] = Real(info.name, shape, kind)

    def finish(self, model: onnx.ModelProto) -> Graph:
        """The Graph up to the model's one output; raises ConvertError."""
        name = model.graph.output[0].name
        found = self.values.get(name)
        if isinstance(found, PendingLayer):
            grid = self.tensors[found.layer.input].quant if keeps_grid(found) else self.own_grid(found.layer)
            found = found if grid is None else self.finish_layer(name, found, grid)
        if not isinstance(found, Quantized) or found.per_channel:
            raise ConvertError(
                f"{name[:200]}: the output must come from a QuantizeLinear/DequantizeLinear pair of one scale; have "
                f"outputs quantized too"
            )
        output = self.materialize(name, found).base
        self.places.append(Place(output, name, found.layout != "plain"))
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        spec_json = metadata.get("kws_spec", "")
        if spec_json:
            try:
                spec_id = KwsSpec.from_json(spec_json).spec_id
            except SpecError as error:
                raise ConvertError(f"metadata kws_spec: {error}; export the model again") from None
            if metadata.get("spec_id") != spec_id:
                raise ConvertError(
                    f"metadata spec_id is {metadata.get('spec_id')}, kws_spec hashes to {spec_id}; export the model "
                    f"again"
                )
        return Graph(tuple(self.tensors), tuple(self.layers), 0, output, spec_json)

    def value(self, node: OnnxNode, index: int) -> Value:
        """What an operand stands for."""
        node.asked.add(index)
        key = node.inputs[index] if index < len(node.inputs) else ""
        if key not in self.values:
            raise ConvertError(
                f"{node.name}: input {index} ({key[:200] or 'missing'}) is not computed by any node before it"
            )
        found = self.values[key]
        if isinstance(found, Quantized) and found.per_channel and node.op_type not in READ_PER_CHANNEL:
            raise ConvertError(
                f"{node.name}: reads {key[:200]}, which has a scale for each channel; TensorFlow Lite has such for "
                f"weights alone: quantize activations per tensor"
            )
        return found

    def array(self, node: OnnxNode, index: int) -> Array | None:
        """A constant operand, None when it is left out."""
        if not node.has_input(index):
            return None
        found = self.value(node, index)
        if not isinstance(found, Constant):
            raise ConvertError(f"{node.name}: input {index} ({node.inputs[index][:200]}) must be a constant")
        if found.array.dtype.kind not in "iufb":
            raise ConvertError(f"{node.name}: input {index} must be numbers, got {found.array.dtype}")
        self.budget.take(found.array.nbytes)
        return found.array

    def activation(self, node: OnnxNode, index: int = 0) -> Quantized:
        """An operand on its int8 grid, seen as real numbers."""
        found = self.value(node, index)
        if isinstance(found, PendingLayer) and keeps_grid(found):
            name = node.inputs[index]
            if name not in self.unquantized:
                done = self.finish_layer(name, found, self.tensors[found.layer.input].quant)
                self.unquantized[name] = replace(done, dequantized=True)
            return self.unquantized[name]
        if isinstance(found, Quantized) and found.dequantized:
            return found
        if isinstance(found, Quantized):
            raise ConvertError(
                f"{node.name}: computes with the int8 numbers of {node.inputs[index][:200]}, not with the real values "
                f"that they stand for; put it behind a DequantizeLinear"
            )
        raise ConvertError(
            f"{node.name}: input {node.inputs[index][:200]} is float, not behind QuantizeLinear/DequantizeLinear; have "
            f"every layer's output quantized"
        )

    def quant_of(self, value: Quantized) -> QuantParams:
        """Scale and zero point of the tensor behind the value."""
        return self.tensors[value.base].quant

    def stored(self, tensor: int) -> tuple[tuple[int, ...], QuantParams]:
        """Shape and scale of a tensor of the Graph."""
        return self.tensors[tensor].shape, self.tensors[tensor].quant

    def never_negative(self, x: Quantized) -> bool:
        """Whether no real value of the activation lies below 0, whatever the input."""
        if self.quant_of(x).zero_point == -128:
            return True
        layer = next((layer for layer in self.layers if layer.output == x.base), None)
        if isinstance(layer, (Reshape, Transpose, Pad)):
            return self.never_negative(replace(x, base=layer.input))
        return isinstance(layer, (Relu, Relu6)) or getattr(layer, "activation", "NONE") != "NONE"

    def note(self, text: str) -> None:
        """What the user of the model should know about how it was read."""
        self.notes[text] = None

    def finish_layer(self, tensor_name: str, pending: PendingLayer, quant: QuantParams) -> Quantized:
        """The tensor a pending layer writes, now that its scale is known. What the operator cannot do itself, another
        scale or an activation, a layer behind it does."""
        layer = pending.choose(pending.layer, quant) if pending.choose else pending.layer
        name, activation, own = layer.name, activation_of(layer.name, pending.bounds, quant), self.own_grid(layer)
        if own is not None and not _same(layer, own, quant):
            rounds = not isinstance(layer, (Pad, MaxPool2D))
            finest = FINEST if isinstance(layer, AveragePool2D) else 1.0  # the others end a step short of 1
            if rounds and own.scale > finest * quant.scale:
                raise ConvertError(
                    f"{name}: {layer.TFLITE.name} rounds to steps of {own.text}, which are too coarse for the output "
                    f"scale {quant.text}; let that be {own.scale / finest:.9g} or more"
                )
            layer = Quantize(name, self._emit(f"{tensor_name}/unscaled", layer, pending.stored, own), -1)
        if activation == "RELU" and isinstance(layer, Quantize):
            layer = Relu(name, layer.input, -1)
        elif activation != "NONE" and hasattr(layer, "activation"):
            layer = with_fields(layer, activation=activation)
        elif activation != "NONE":
            # on the output's grid: to round and then to clip is to clip and then to round
            before = self._emit(f"{tensor_name}/unclipped", layer, pending.stored, quant)
            layer = (Relu if activation == "RELU" else Relu6)(name, before, -1)
        done = Quantized(
            self._emit(tensor_name, layer, pending.stored, quant), pending.shape, pending.layout, dequantized=False
        )
        for move in pending.moves:
            done = move(done)
        self.places.append(Place(done.base, tensor_name, done.layout != "plain", done.chw))
        return done

    def own_grid(self, layer: Operator) -> QuantParams | None:
        """The only grid that the operator can write, if there is such."""
        if isinstance(layer, (Softmax, Logistic)):
            return SCORES
        if isinstance(layer, Tanh):
            return QuantParams((1 / 128,), (0,))
        is_bound = isinstance(layer, (Pad, MaxPool2D, AveragePool2D))
        return self.tensors[layer.input].quant if is_bound else None

    def _emit(self, tensor_name: str, layer: Operator, stored: tuple[int, ...], quant: QuantParams) -> int:
        """The number of the tensor that the layer, now in the Graph, writes."""
        index = self._add(tensor_name, stored, quant)
        if layer.weights:
            self.budget.take(layer.weights.values.nbytes + layer.weights.bias.nbytes)
        check_layers(len(self.layers) + 1)
        self.layers.append(with_fields(layer, name=layer_name(tensor_name), output=index))
        return index

    def rescaled(self, name: str, x: Quantized) -> PendingLayer:
        """The activation's values, waiting for another scale or for bounds."""
        if x.pads_tblr != NO_PADS:
            x = self.materialize(name, x)

        def seen(y: Quantized) -> Quantized:
            return replace(x, base=y.base, dequantized=False)

        stored = self.tensors[x.base].shape
        return PendingLayer(Quantize(name, x.base, -1), stored, "plain", stored, moves=(seen,))

    def _add(self, name: str, shape: tuple[int, ...], quant: QuantParams) -> int:
        self.tensors.append(Tensor(name, shape, quant))
        return len(self.tensors) - 1

    def materialize(self, name: str, value: Quantized) -> Quantized:
        """The same values as a tensor of their own shape: a view becomes a Reshape, waiting zeros become a Pad."""
        if value not in self.materialized:
            self.materialized[value] = self._materialize(name, value)
        return self.materialized[value]

    def as_map(self, name: str, x: Quantized) -> Quantized:
        """The same values with their channels innermost, by a Transpose where they are not yet; three or four axes."""
        rank = len(x.shape)
        if x.shape[0] != 1:
            raise ConvertError(f"{name}: the batch is 1, got shape {x.shape}; export the model for one input")
        layout: Layout = "nchw" if rank == 4 else "ncw"
        return x if x.layout == layout else self.transposed(name, x, tuple(range(rank)), layout)

    def in_order(self, name: str, x: Quantized) -> Quantized:
        """The same values stored in ONNX's order, by a Transpose where they are not yet."""
        if x.chw is not None:
            shape = x.shape
            x = self.in_order(name, replace(x, shape=(1, *x.chw), layout="nchw", chw=None))
            return replace(x, shape=shape)
        return x if x.layout == "plain" else self.transposed(name, x, tuple(range(len(x.shape))), "plain")

    def transposed(self, name: str, x: Quantized, perm: tuple[int, ...], layout: Layout) -> Quantized:
        """Axis i of the result is axis perm[i] of x; a Transpose where that moves data."""
        if x.pads_tblr != NO_PADS or x.chw is not None:
            x = self.materialize(name, x)
        after = replace(x, shape=tuple(x.shape[axis] for axis in perm), layout=layout)
        before = [axis for axis in stored_order(x) if x.shape[axis] > 1]
        wanted = [perm[axis] for axis in stored_order(after) if after.shape[axis] > 1]
        if before == wanted:
            return after
        x = self.materialize(name, replace(x, shape=(1, *(x.shape[axis] for axis in before)), layout="plain"))
        moved = (0, *(before.index(axis) + 1 for axis in wanted))
        tensor = f"{name}/transpose"
        layer = Transpose(name, x.base, -1, moved)
        return replace(after, base=self._emit(tensor, layer, tuple(x.shape[axis] for axis in moved), self.quant_of(x)))

    def _materialize(self, name: str, value: Quantized) -> Quantized:
        if value.chw is not None:
            value = self.in_order(name, value)
        quant, base, shape = self.quant_of(value), value.base, stored_shape(value.bare.shape, value.layout)
        if self.tensors[base].shape != shape:
            self.layers.append(Reshape(f"{name}/reshape", base, self._add(f"{name}/reshape", shape, quant)))
            base = len(self.tensors) - 1
        if value.pads_tblr == NO_PADS:
            return replace(value, base=base)
        top, bottom, left, right = value.pads_tblr
        pads = ((0, 0), (top, bottom), (left, right), (0, 0))
        padded = (1, shape[1] + top + bottom, shape[2] + left + right, shape[3])
        self.layers.append(Pad(f"{name}/pad", base, self._add(f"{name}/pad", padded, quant), pads))
        return replace(value, base=len(self.tensors) - 1, pads_tblr=NO_PADS)


def _input_layout(graph: onnx.GraphProto, name: str, rank: int) -> Layout:
    """How the input is stored so that its first reader need not turn it round: maps with their channels innermost."""
    names = {name}
    for node in graph.node:
        if not node.input or node.input[0] not in names:
            continue
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Identity", "Pad"):
            names.update(node.output)
            continue
        perm = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), [])
        is_nhwc = node.op_type == "Transpose" and perm == [0, 3, 1, 2]
        if rank == 3 and node.op_type in ("Conv", "QLinearConv", "MaxPool", "AveragePool"):
            return "ncw"
        return "plain" if rank != 4 or is_nhwc else "nchw"
    return "plain" if rank != 4 else "nchw"


def keeps_grid(found: PendingLayer) -> bool:
    """Whether its output lies on its input's grid without a QuantizeLinear."""
    return isinstance(found.layer, (Pad, MaxPool2D, Quantize)) and found.bounds in (NO_BOUNDS, (0.0, math.inf))


def _same(layer: Operator, own: QuantParams, quant: QuantParams) -> bool:
    """Whether TensorFlow Lite takes the two grids for one."""
    tolerance = SCALE_TOLERANCE if isinstance(layer, (MaxPool2D, AveragePool2D)) else 0.0
    return own.zero_point == quant.zero_point and abs(own.scale - quant.scale) <= tolerance
