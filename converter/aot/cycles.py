"""Expected cycles and bytes of code of every kernel before anything runs: how often its loops turn, from the shapes it
was given, times what a turn takes on the virtual board.

kernel_costs.json holds the cycles of a turn. `python -m host costs` measures them: least squares over layers drawn in
many shapes (host/costs/kernel_probes.py). A kernel's terms are its loops, in the order of its C file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from converter.aot.kernels.requantize import unclamped
from converter.aot.kernels.structs import (
    Kernel,
    NnAddLayer,
    NnAddRepeatLayer,
    NnAddWeightedLayer,
    NnConcatenationLayer,
    NnConvLayer,
    NnConvPackedLayer,
    NnDenseLayer,
    NnDenseLowbitLayer,
    NnDenseSparseLayer,
    NnDepthwise3Layer,
    NnDepthwiseTimeLayer,
    NnMeanLayer,
    NnMulLayer,
    NnPadLayer,
    NnPointwiseLayer,
    NnPoolLayer,
    NnSoftmaxLayer,
    NnStridedCopyLayer,
    NnTableLayer,
    NnWinogradLayer,
    Unpacked,
)
from converter.checked import build, json_in

TABLE = Path(__file__).with_name("kernel_costs.json")
Terms = dict[str, float]


@dataclass(frozen=True)
class KernelCosts:
    """Cycles of each turn, by kernel and by the names that work() gives; bytes of code of an engine's parts, see
    converter/aot/estimate.py; bytes of flash and RAM of the firmware round it, without and with a front end."""

    cycles: dict[str, Terms]
    code: Terms
    firmware: Terms


@cache
def kernel_costs() -> KernelCosts:
    """The measured table."""
    return build(KernelCosts, json_in(TABLE))


def layer_cycles(kernel: Kernel | None, in_ram: bool, costs: KernelCosts | None = None) -> float:
    """Expected cycles of a layer; in_ram: whether its constants are copied to RAM at start. Raises KeyError for a
    kernel that was never measured."""
    if kernel is None:
        return 0.0
    name, terms = work(kernel, in_ram)
    table = (costs or kernel_costs()).cycles[name]
    return sum(table.get(term, 0.0) * count for term, count in terms.items())


def work(kernel: Kernel, in_ram: bool) -> tuple[str, Terms]:
    """(name in the table, turns of each loop); "flash" is the loop that loads constants, where they lie in flash."""
    found = _loops(kernel)
    innermost = found.pop("loads", 0.0)
    if isinstance(weights := getattr(kernel.layer, "weights", None), Unpacked):
        found["unpacked"], in_ram = weights.words, True
    name = kernel.function
    if isinstance(kernel.layer, NnConvLayer) and kernel.function == "nn_conv_s8_simd" and not kernel.layer.code:
        name += " in C"
    return name, {"call": 1.0, **found, "flash": 0.0 if in_ram else innermost}


def _loops(kernel: Kernel) -> Terms:
    match kernel.layer:
        case NnPointwiseLayer() as layer:
            return _pointwise(layer)
        case NnConvPackedLayer() as layer:
            return _conv_packed(layer)
        case NnWinogradLayer() as layer:
            blocks = _up(layer.out_h, 2) * _up(layer.out_w, 8)
            products = blocks * layer.out_c * layer.in_c
            moved = {"rows": _up(layer.out_h, 2), "input": blocks * layer.in_c, "output": blocks * layer.out_c}
            return {"block": blocks, **moved, "product": products, "loads": products}
        case NnDepthwise3Layer() as layer:
            return _depthwise3(layer)
        case NnDepthwiseTimeLayer() as layer:
            return _depthwise_time(layer)
        case NnConvLayer() as layer:
            return _conv(kernel.function, layer)
        case NnDenseLayer() as layer:
            blocks = layer.rows * _up(layer.out_n, 4)
            products = blocks * _up(layer.in_n, 4)
            outputs = layer.rows * layer.out_n
            return {"block": blocks * _up(layer.in_n, 512), "output": outputs, "product": products, "loads": products}
        case NnDenseLowbitLayer() | NnDenseSparseLayer() as layer:
            words = layer.rows * layer.weights.size
            return {"output": layer.rows * layer.out_n, "product": words, "loads": words}
        case NnPoolLayer() as layer:
            down = _inside(layer.out_h, layer.stride_h, layer.pad_top, layer.window_h, layer.in_h)
            along = _inside(layer.out_w, layer.stride_w, layer.pad_left, layer.window_w, layer.in_w)
            groups, left = _groups(kernel.function, layer.channels)
            pixels = layer.out_h * layer.out_w
            whole = {"pixel": pixels, "group": pixels * groups, "tap row": down * layer.out_w * groups}
            taps = {"tap": down * along * groups, "lone tap": down * along * left}
            return {**whole, **taps, "lone row": down * layer.out_w * left, "lone": pixels * left}
        case NnMeanLayer() as layer:
            groups, left = _groups(kernel.function, layer.channels)
            whole = {"group": layer.maps * groups, "value": layer.maps * groups * layer.count}
            return {**whole, "lone": layer.maps * left, "lone value": layer.maps * left * layer.count}
        case NnAddLayer(count=count) | NnAddWeightedLayer(count=count) | NnTableLayer(count=count):
            return {"value": count}
        case NnAddRepeatLayer() | NnMulLayer() as layer:
            outer = layer.blocks * layer.count
            return {"block": layer.blocks, "repeated": outer, "value": outer * layer.repeat}
        case NnSoftmaxLayer() as layer:
            return {"row": layer.rows, "value": layer.rows * layer.depth}
        case NnPadLayer() as layer:
            n, height, width, channels = layer.in_shape
            full = layer.out_shape[0] * layer.out_shape[1] * layer.out_shape[2] * layer.out_shape[3]
            return {"filled": full, "pixel": n * height * width, "value": n * height * width * channels}
        case NnConcatenationLayer() as layer:
            return {"part": layer.rows * layer.operands, "value": layer.rows * int(layer.widths.sum())}
        case NnStridedCopyLayer() as layer:
            lines = layer.shape[0] * layer.shape[1] * layer.shape[2] * layer.shape[3]
            joined = layer.step[4] == 1
            return {"row": lines, "joined" if joined else "value": lines * layer.shape[4]}


def _up(size: int, step: int) -> int:
    return -(-size // step)


def _groups(function: str, channels: int) -> tuple[int, int]:
    """(groups of four channels, channels left)."""
    return divmod(channels, 4) if function.endswith("_simd") else (0, channels)


def _inside(outputs: int, stride: int, pad: int, window: int, size: int) -> int:
    """Taps inside the input, of all windows along one axis."""
    return sum(min(i * stride - pad + window, size) - max(i * stride - pad, 0) for i in range(outputs))


def _pointwise(layer: NnPointwiseLayer) -> Terms:
    """Blocks of four pixels, a last one of pixels already done; larger patches from rows that are copied."""
    copied = layer.kernel_h * ((layer.out_w - 1) * layer.stride_w + layer.kernel_w) * layer.in_c
    one = layer.kernel_h == layer.kernel_w == 1
    plain = one and layer.stride_h == layer.stride_w == 1
    runs, pixels = (1, layer.out_h * layer.out_w) if plain else (layer.out_h, layer.out_w)
    fours, ones = divmod(pixels, 4)
    fours, ones = (fours, ones) if pixels < 4 or ones < 2 else (fours + 1, 0)
    blocks, singles, pairs = runs * fours, runs * ones, layer.pairs
    taps = layer.kernel_h * _up(layer.kernel_w * layer.in_c, 2)
    products, alone = blocks * pairs * taps, singles * pairs * taps
    whole = {"block": blocks, "input": blocks * taps, "output": blocks * pairs, "product": products}
    lone = {"lone": singles, "lone output": singles * pairs, "lone product": alone}
    wide = 0.0 if layer.shift else blocks * pairs
    held = layer.out_h * layer.out_w * layer.out_c if layer.constants is not None else 0
    beside = {"constant": held, "filled": 0 if one else layer.out_h * copied}
    return {"run": runs, **whole, **lone, **beside, "wide output": wide, "loads": products + alone}


def _conv_packed(layer: NnConvPackedLayer) -> Terms:
    """For each row of outputs and pair of channels two triples of outputs at a time."""
    rows = _inside(layer.out_h, layer.stride_h, layer.pad_top, layer.kernel_h, layer.in_h)
    slots = layer.out_c / 2 * _up(_up(layer.out_w + 1, 2), 2)
    appended = min(layer.in_h, rows)
    outer = {"row": layer.out_h, "input": appended * layer.row_words, "slot": layer.out_h * slots}
    products, outputs = rows * slots * layer.taps, layer.out_h * layer.out_w * layer.out_c
    tails = rows * layer.out_c / 2 * layer.tail
    wide = 0 if layer.relu else outputs
    return {**outer, "kernel row": rows * slots, "product": products, "tail": tails, "wide": wide, "loads": products}


def _depthwise3(layer: NnDepthwise3Layer) -> Terms:
    """Four planes at a time, taken out of the input, then convolved down their columns."""
    pieces, groups, left = _up(layer.out_h, layer.rows), layer.channels // 4, layer.channels % 4
    words = (layer.rows + 3) // 2 if layer.stride_h == 1 else layer.rows + 1
    columns = min(layer.in_w, (layer.out_w - 1) * layer.stride_w + 3)
    outputs = layer.out_h * layer.out_w * layer.channels
    taken = {"taken": pieces * groups * columns * words, "lone taken": pieces * left * columns * words}
    column = pieces * layer.channels * layer.out_w
    wide = 0 if layer.shift else outputs
    strided = outputs if layer.stride_h > 1 else 0
    return {
        **taken,
        "group": pieces * _up(layer.channels, 4),
        "plane": pieces * layer.channels,
        "column": column,
        "output": outputs,
        "strided": strided,
        "wide": wide,
    }


def _depthwise_time(layer: NnDepthwiseTimeLayer) -> Terms:
    """Four channels at a time, in C where a window sticks out."""
    window, outputs = layer.kernel_h, layer.out_h
    inside = sum(y >= layer.pad_top and y - layer.pad_top + window <= layer.in_h for y in range(outputs)) * layer.in_w
    beside, groups = outputs * layer.in_w - inside, _up(layer.channels, 4)
    pairs = _up(window, 2)
    whole = {"pixel": inside, "group": inside * groups, "product": inside * groups * pairs}
    portable = {"beside": beside * groups, "product beside": beside * groups * window}
    return {**whole, **portable, "wide": 0 if layer.shift else inside * groups, "loads": inside * groups * pairs}


def _conv(function: str, layer: NnConvLayer) -> Terms:
    rows = _inside(layer.out_h, layer.stride_h, layer.pad_top, layer.kernel_h, layer.in_h)
    columns = _inside(layer.out_w, layer.stride_w, layer.pad_left, layer.kernel_w, layer.in_w)
    pixels, outputs = layer.out_h * layer.out_w, layer.out_h * layer.out_w * layer.out_c
    clamped = 0 if unclamped(layer.output) else outputs
    match function:
        case "nn_conv_s8_simd":
            blocks, words, pairs = _up(pixels, 3), _up(layer.kernel_w * layer.in_c, 2), layer.out_c / 2
            met = rows / layer.out_h  # kernel rows of a pixel
            clipped = sum(
                x < 0 or x + layer.kernel_w > layer.in_w
                for x in range(-layer.pad_left, layer.out_w * layer.stride_w - layer.pad_left, layer.stride_w)
            )
            gathered = {"block": blocks, "kernel row": rows * layer.out_w, "input": rows * layer.out_w * words}
            edges = rows * clipped
            turns = {"output": blocks * pairs, "product": blocks * pairs * met * words}
            edge = {"edge": edges, "edge input": edges * words}
            return {**gathered, **edge, **turns, "loads": blocks * pairs * met * words}
        case "nn_conv_rows_s8_simd":
            blocks, fours = _up(layer.out_w, 5) * layer.out_c, _up(layer.kernel_w * layer.in_c, 4)
            widened = min(layer.in_h, rows) * layer.in_w * layer.in_c
            turns = {"block": layer.out_h * blocks, "kernel row": rows * blocks, "product": rows * blocks * fours}
            return {"input": widened, **turns, "output": outputs, "clamped": clamped, "loads": rows * blocks * fours}
        case "nn_depthwise_s8_simd":
            groups, left = divmod(layer.out_c, 4)
            whole = {"pixel": pixels, "group": pixels * groups, "kernel row": rows * layer.out_w * groups}
            lone = {"lone": pixels * left, "lone product": rows * columns * left}
            turns = {"product": rows * columns * groups, "clamped": clamped}
            return {**whole, **turns, **lone, "loads": rows * columns * groups}
        case _:
            products = rows * columns * layer.out_c * (layer.in_c if function == "nn_conv_s8" else 1)
            rows_read = rows * layer.out_w * layer.out_c
            return {"pixel": pixels, "output": outputs, "kernel row": rows_read, "product": products, "loads": products}
