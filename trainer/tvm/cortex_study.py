"""The Cortex-M4 schedules on the virtual board: cycles per layer after each step, every layer's CRC equal to the
compiled engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converter import convert as conversion
from converter.files import write_atomic
from trainer.board import BoardTools
from trainer.errors import TrainerError
from trainer.tvm.cortex import CHANNELS, PIXELS, STEPS, Tile, kernel_of, scheduled
from trainer.tvm.cortex_firmware import GENERATORS, write_firmware
from trainer.tvm.primitives import Primitive

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "reference"
RECORDS = (
    ("TFLM, reference kernels, -O2 (RECORDS)", 34_000_000),
    ("TFLM + CMSIS-NN, Arduino library -Os (RECORDS)", 3_417_000),
    ("TFLM + CMSIS-NN HEAD, -O2 (RECORDS)", 2_046_000),
)
TILES = (
    (1, 1),
    (2, 1),
    (2, 2),
    (4, 1),
    (4, 2),
    (5, 2),
    (2, 4),
)  # pixels x channels that are tried; more sums than ten spill


@dataclass(frozen=True)
class Profile:
    """Cycles and CRC of each layer, in order."""

    layers: tuple[str, ...]
    cycles: tuple[int, ...]
    crcs: tuple[str, ...]

    @property
    def total(self) -> int:
        """Cycles of all layers."""
        return sum(self.cycles)


def study(primitive: Primitive, method: str, out: Path, tools: BoardTools) -> list[str]:
    """int8 instead of float32, and the reference model's layer: its convolution for conv2d, its dense layer for
    gemm."""
    if primitive.name not in ("conv2d", "gemm"):
        raise TrainerError(
            f"tvm: --target cortex-m4 compiles conv2d and gemm (two layers of the reference model), got "
            f"{primitive.name}; "
            "name one of these"
        )
    graph = conversion.load(REFERENCE).graph
    kernels = {n: kernel for n, layer in enumerate(graph.layers) if (kernel := kernel_of(graph, layer))}
    number, kernel = next(
        (n, kernel) for n, kernel in kernels.items() if kernel.is_conv == (primitive.name == "conv2d")
    )
    steps = {"original": 0, "manual": len(STEPS), "auto": len(STEPS)}[method]
    lines = []
    for n in range(steps + 1):
        name = STEPS[n - 1].__name__ if n else "original"
        file = out / f"{primitive.name}_cortex-m4_{n}_{name}.py"
        write_atomic(file, (scheduled(kernel, n, "llvm").mod.script() + "\n").encode())
        lines.append(str(file))
    ours = ours_profile(out, tools)
    for generator in GENERATORS:
        tiles = {
            "original": {"original": (0, (PIXELS, CHANNELS))},
            "auto": {f"tile {p} x {c}": (len(STEPS), (p, c)) for p, c in TILES},
        }
        rows: dict[str, tuple[int, Tile]] = tiles.get(method) or {
            STEPS[n - 1].__name__ if n else "original": (n, (PIXELS, CHANNELS)) for n in range(len(STEPS) + 1)
        }
        for name, (count, tile) in rows.items():
            found = profile(out / f"{generator}_{count}_{tile[0]}x{tile[1]}", count, generator, tools, tile)
            require_equal(found, ours)
            lines.append(
                f"{generator} {name}: {found.cycles[number]:,} cycles; our compiled engine, equal CRC: "
                f"{ours.cycles[number]:,}"
            )
    return lines


def profile(out: Path, steps: int, generator: str, tools: BoardTools, tile: Tile = (PIXELS, CHANNELS)) -> Profile:
    """Build the engine and take its cycles on the virtual board."""
    write_firmware(REFERENCE, out, steps, generator, tile)
    return measure(out, tools)


def ours_profile(out: Path, tools: BoardTools) -> Profile:
    """The same of the compiled engine."""
    loaded = conversion.load(REFERENCE)
    conversion.write_all(conversion.render(loaded), out / "aot" / "firmware")
    return measure(out / "aot", tools)


def measure(folder: Path, tools: BoardTools) -> Profile:
    """Of the image of FOLDER/firmware."""
    layers = tools.profile(tools.build(folder / "firmware", folder / "build"), 1)["layers"]
    return Profile(
        tuple(str(x["name"]) for x in layers),
        tuple(int(x["cycles"]) for x in layers),
        tuple(str(x["crc32"]) for x in layers),
    )


def require_equal(found: Profile, ours: Profile) -> None:
    """TrainerError where a layer's CRC is not the compiled engine's."""
    for name, got, want in zip(found.layers, found.crcs, ours.crcs, strict=True):
        if got != want:
            raise TrainerError(
                f"tvm: layer {name} must give what the compiled engine gives, CRC {want}, got {got}; report this "
                f"schedule"
            )


def table(out: Path, tools: BoardTools) -> list[str]:
    """Markdown: cycles of the reference model's two layers after each step, beside the compiled engine and the
    records."""
    ours = ours_profile(out, tools)
    lines = [
        "## Cortex-M4: TinyConv int8 on the virtual board",
        "",
        "Modelled cycles, cache on; every layer's CRC equals the compiled engine's.",
        "",
        f"| engine | {ours.layers[0]} | {ours.layers[1]} | all |",
        "|---|---|---|---|",
    ]
    for generator in GENERATORS:
        for n in range(len(STEPS) + 1):
            found = profile(out / f"{generator}_{n}_{PIXELS}x{CHANNELS}", n, generator, tools)
            require_equal(found, ours)
            name = (
                f"tvm, {'GCC of its C' if generator == 'c' else 'its LLVM'}, "
                f"{STEPS[n - 1].__name__ if n else 'original'}"
            )
            lines.append(f"| {name} | {found.cycles[0]:,} | {found.cycles[1]:,} | {found.total:,} |")
    lines.append(f"| our compiled engine | {ours.cycles[0]:,} | {ours.cycles[1]:,} | {ours.total:,} |")
    return [*lines, *(f"| {name} | | | {cycles:,} |" for name, cycles in RECORDS), ""]
