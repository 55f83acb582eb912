"""What a model will cost on the board: flash, RAM, parameters and operations per layer, for int8 and for fp32.

An operation count is 2 per multiply-accumulate and 1 per bias, counted at every output element; pooling counts its
window once per output, ADD one per output; RESHAPE, PAD and SOFTMAX count nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from converter.aot.emit import engine_kernels
from converter.aot.kernels.structs import Kernel
from converter.aot.kernels.weight_tables import stored
from converter.aot.memory_plan import plan_arena
from converter.graph import Graph, Operator
from converter.target import NRF52840
from converter.tflite.writer import write_tflite

FLASH_BYTES, RAM_BYTES = NRF52840.flash_bytes, NRF52840.ram_bytes


@dataclass(frozen=True)
class LayerSize:
    """Shape and cost of one layer."""

    name: str
    operator: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    operations: int
    int8_bytes: int  # int8 weights and int32 biases
    weight_bits: int  # the width that the weights need, 2 to 8; 0 without weights
    stored: str  # how the compiled engine's flash holds the weights: plain, packed (convolutions), int4, int2, sparse
    engine_bytes: int  # all constants of the compiled engine's kernel: weights, biases, multipliers, tables


@dataclass(frozen=True)
class ModelSize:
    """Totals; RAM is the activations of the best arena plan, flash the constants without code."""

    model_id: str
    layers: tuple[LayerSize, ...]
    activation_elements: int  # input and layer outputs; RESHAPE and SOFTMAX can work in place
    tflite_bytes: int
    arena_bytes: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiplications with a weight, per inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def operations(self) -> int:
        """Per inference, as LayerSize counts them."""
        return sum(layer.operations for layer in self.layers)

    @property
    def int8_flash_bytes(self) -> int:
        """int8 weights and int32 biases."""
        return sum(layer.int8_bytes for layer in self.layers)

    @property
    def engine_flash_bytes(self) -> int:
        """Constants in the form that the C engine reads."""
        return sum(layer.engine_bytes for layer in self.layers)

    @property
    def fp32_flash_bytes(self) -> int:
        """The parameters as float32."""
        return 4 * self.parameters

    @property
    def fp32_ram_bytes(self) -> int:
        """The arena as float32."""
        return 4 * self.arena_bytes


def model_size(graph: Graph) -> ModelSize:
    """The sizes of a checked graph."""
    counted = [layer.output for layer in graph.layers if layer.MEMORY == "own"]
    elements = sum(graph.tensors[index].size for index in [graph.input, *counted])
    layers = tuple(
        _layer_size(graph, layer, kernel) for layer, kernel in zip(graph.layers, engine_kernels(graph), strict=True)
    )
    return ModelSize(graph.model_id, layers, elements, len(write_tflite(graph)), plan_arena(graph).arena_bytes)


def _layer_size(graph: Graph, layer: Operator, kernel: Kernel | None) -> LayerSize:
    cost, weights = layer.cost(graph), layer.weights
    values, biases = (weights.values.size, len(weights.bias)) if weights else (0, 0)
    form, engine_bytes = stored(kernel) if kernel else ("", 0)
    return LayerSize(
        layer.name,
        layer.TFLITE.name,
        graph.tensors[layer.output].shape,
        values + biases,
        cost.macs,
        cost.operations,
        values + 4 * biases,
        weights.bits if weights else 0,
        form,
        engine_bytes,
    )


def to_json(size: ModelSize) -> dict[str, Any]:
    """All figures under flat names, and the rows of the layers."""
    return {
        "model_id": size.model_id,
        "parameters": size.parameters,
        "macs": size.macs,
        "operations": size.operations,
        "activation_elements": size.activation_elements,
        "int8_flash_bytes": size.int8_flash_bytes,
        "engine_flash_bytes": size.engine_flash_bytes,
        "fp32_flash_bytes": size.fp32_flash_bytes,
        "int8_ram_bytes": size.arena_bytes,
        "fp32_ram_bytes": size.fp32_ram_bytes,
        "tflite_bytes": size.tflite_bytes,
        "board_flash_bytes": FLASH_BYTES,
        "board_ram_bytes": RAM_BYTES,
        "layers": [asdict(layer) for layer in size.layers],
    }


def tables(size: ModelSize) -> list[Table]:
    """For the terminal: one row per layer, then bytes, KiB and share of the board."""
    layers = Table(title=f"Model {size.model_id}", title_justify="left")
    for column in ("layer", "operator", "output", "parameters", "MAC", "operations"):
        layers.add_column(column, justify="left" if column in ("layer", "operator", "output") else "right")
    for row in size.layers:
        shape = "x".join(map(str, row.output_shape[1:]))
        layers.add_row(row.name, row.operator, shape, f"{row.parameters:,}", f"{row.macs:,}", f"{row.operations:,}")
    layers.add_section()
    layers.add_row(
        "all",
        "",
        f"{size.activation_elements:,} activations",
        f"{size.parameters:,}",
        f"{size.macs:,}",
        f"{size.operations:,}",
    )
    stored_as = Table(title="Constants in the compiled engine's flash (code not counted)", title_justify="left")
    for column in ("layer", "weight bits", "stored", "bytes"):
        stored_as.add_column(column, justify="left" if column in ("layer", "stored") else "right")
    for row in size.layers:
        stored_as.add_row(row.name, str(row.weight_bits or ""), row.stored, f"{row.engine_bytes:,}")
    stored_as.add_section()
    stored_as.add_row("all", "", "", f"{size.engine_flash_bytes:,}")
    board = Table(title="On the board (nRF52840; code not counted)", title_justify="left")
    for column in ("", "bytes", "KiB", "share of"):
        board.add_column(column, justify="right" if column else "left")
    for label, count, whole, memory in (
        ("int8 flash: weights and biases", size.int8_flash_bytes, FLASH_BYTES, "1 MB"),
        ("compiled engine's flash: constants", size.engine_flash_bytes, FLASH_BYTES, "1 MB"),
        ("int8 flash: model.tflite", size.tflite_bytes, FLASH_BYTES, "1 MB"),
        ("int8 RAM: activations", size.arena_bytes, RAM_BYTES, "256 KB"),
        ("fp32 flash: weights and biases", size.fp32_flash_bytes, FLASH_BYTES, "1 MB"),
        ("fp32 RAM: activations", size.fp32_ram_bytes, RAM_BYTES, "256 KB"),
    ):
        board.add_row(label, f"{count:,}", f"{count / 1024:.2f}", f"{count / whole:.2%} of {memory}")
    return [layers, stored_as, board]
