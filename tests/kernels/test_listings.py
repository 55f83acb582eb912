"""The generated assembly of one small shape per generator, as text, so that a change of a kernel shows in review.

After a wanted change: PYTHONPATH=. python tests/kernels/test_listings.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from converter.aot.kernels import (
    conv_asm,
    conv_packed_asm,
    dense_asm,
    depthwise_asm,
    depthwise_time_asm,
    pointwise_asm,
    winograd_asm,
)
from converter.aot.kernels.asm import AsmCode, Routine
from converter.aot.kernels.conv_packed import PackedConvWindow, code
from converter.aot.kernels.low_bits import dense_lowbit_asm
from converter.aot.kernels.requantize import Rounding

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "asm"
RELU, FULL = Rounding(10, -128), Rounding(0, 5)  # rounding of outputs from their zero point, and of the full range


def _lines(*routines: Routine) -> list[str]:
    return [line for routine in routines for line in (f"{routine.name}:", *routine.lines)]


def _conv_packed() -> list[str]:
    window = PackedConvWindow(kernel_h=3, kernel_w=8, in_w=12, in_c=1, out_w=6, out_c=4, stride_h=2, pad_left=3)
    found = code(window, shift=10, relu=8)
    assert isinstance(found, AsmCode)
    return _lines(*found.routines)


def _depthwise() -> list[str]:
    shape = depthwise_asm.DepthwiseShape(3, 1, 1, 5 * 4, 4, 3, 4 * 3 * 7, 5, 5, RELU)
    return _lines(depthwise_asm.routine(shape), depthwise_asm.take_routine(shape))


def _depthwise_time() -> list[str]:
    shapes = [
        depthwise_time_asm.DepthwiseTimeShape(5, 12, 2, RELU),
        depthwise_time_asm.DepthwiseTimeShape(4, 8, 0, FULL),
    ]
    return _lines(*map(depthwise_time_asm.routine, shapes))


def _pointwise() -> list[str]:
    shapes = [pointwise_asm.PointwiseShape(6, 4, 6, rounding) for rounding in (RELU, FULL)]
    shapes.append(pointwise_asm.PointwiseShape(5, 4, 2, RELU, rows=2, row_step=11, places=True))
    return _lines(*(pointwise_asm.routine(shape, pixels) for shape in shapes for pixels in (1, pointwise_asm.BLOCK)))


def _winograd() -> list[str]:
    shape = winograd_asm.WinogradShape(8, 4, 10 * 8, FULL)
    return _lines(winograd_asm.transform(shape), winograd_asm.multiply(shape))


def _dense_lowbit() -> list[str]:
    shapes: list[dense_lowbit_asm.PackedShape | dense_lowbit_asm.SparseShape] = [
        dense_lowbit_asm.PackedShape(4, 0, 8, 4),
        dense_lowbit_asm.PackedShape(2, 0, 2, 2),
        dense_lowbit_asm.SparseShape(4, 4),
        dense_lowbit_asm.SparseShape(8, 8),
    ]
    return [line for shape in shapes for line in (f"{shape.name}:", *dense_lowbit_asm.instructions(shape))]


LISTINGS: dict[str, Callable[[], list[str]]] = {
    "conv": lambda: _lines(*(conv_asm.routine(relu, pixels) for relu in (True, False) for pixels in (1, 3))),
    "conv_packed": _conv_packed,
    "dense": lambda: _lines(dense_asm.routine()),
    "dense_lowbit": _dense_lowbit,
    "depthwise": _depthwise,
    "depthwise_time": _depthwise_time,
    "pointwise": _pointwise,
    "winograd": _winograd,
}


def listing(name: str) -> str:
    """One instruction, label or directive a line."""
    return "\n".join(LISTINGS[name]()) + "\n"


@pytest.mark.parametrize("name", LISTINGS)
def test_listing_is_the_golden_one(name: str) -> None:
    assert listing(name) == (GOLDEN / f"{name}.s").read_text()


def test_every_generator_has_a_listing() -> None:
    generators = Path(conv_packed_asm.__file__).parent.rglob("*_asm.py")
    assert {path.stem.removesuffix("_asm") for path in generators} == set(LISTINGS)
    assert sum(path.stat().st_size for path in GOLDEN.glob("*.s")) < 300_000


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for each in LISTINGS:
        (GOLDEN / f"{each}.s").write_text(listing(each))
