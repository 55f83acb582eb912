"""What each layer of a streaming engine takes of one hop, on a virtual board that runs nothing else: ideal cycles,
which add up layer by layer wherever code and constants lie."""

from __future__ import annotations

from pathlib import Path

from converter.arrays import Json
from converter.files import scratch_folder
from host.emulator.board import VirtualBoard
from host.emulator.session.launcher import launch
from host.errors import HostError
from host.firmware_build import ROOT, build_bare, build_firmware
from host.link.client import Board
from host.measure.image_size import ENGINE, part_sizes
from host.measure.profile import profile

RUNS = 3
HOPS = 3  # the last is counted: by then every line of the flash's cache that stays is there
PROGRAM = """\
#include "board.h"
#include "model_aot.h"

volatile uint32_t done, layer_cycles[MODEL_AOT_LAYERS], hop_cycles;
static uint32_t started;
static int8_t rows[MODEL_AOT_STREAM_HOP_BYTES];

static void after_layer(int layer, const char *name, const int8_t *output, uint32_t bytes)
{
    (void)name, (void)output, (void)bytes;
    layer_cycles[layer] = board_cycles() - started;
    started = board_cycles();
}

int main(void)
{
    board_init();
    model_aot_stream_start();
    for (int hop = 0; hop < %d; hop++) {
        started = board_cycles();
        model_aot_stream_run(rows, after_layer);
    }
    started = board_cycles();
    model_aot_stream_run(rows, 0);
    hop_cycles = board_cycles() - started;
    for (done = 1;;) {
        __asm__ volatile("wfi");
    }
}
"""


def hop_layers(generated: Path, layers: int) -> Json:
    """Of generated files that stream: ideal cycles of a hop by layer (rows it moves up included) and as a whole, and
    the engine's bytes of flash and RAM. Raises HostError, BoardError."""
    lib = ROOT / "firmware" / "lib"
    with scratch_folder() as name:
        program = name / "hop_layers.c"
        program.write_text(PROGRAM % HOPS)
        sources = [program, generated / "model_aot.c", *sorted((lib / "nn").glob("*.c"))]
        elf = build_bare(
            sources, name / "hop_layers.elf", board_layer=True, flags=[f"-I{generated}", f"-I{lib / 'nn'}"]
        )
        board = VirtualBoard(elf, timing=None)
        objects = board.image.objects
        if not board.run(20.0, lambda: board.read_word(objects["done"].address) != 0):
            raise HostError(f"{generated}: a hop's layers were not done after 20 s of the board's time; report this")
        first = objects["layer_cycles"].address
        cycles = [board.read_word(first + 4 * layer) for layer in range(layers)]
        engine = next(part for part in part_sizes(elf) if part.part == ENGINE)
        whole = board.read_word(objects["hop_cycles"].address)
    return {"layers": cycles, "hop": whole, "flash": engine.flash, "ram": engine.ram}


def firmware_hop(generated: Path) -> Json:
    """The same of the whole firmware, as `host profile` gives it on the ideal clock: cycles of a hop (fewest of RUNS),
    bytes of the engine."""
    with scratch_folder() as name:
        elf = build_firmware(generated, name)
        with launch(elf, clock="ideal") as port, Board(port) as board:
            stage = profile(board, RUNS).stage("inference (stream)")
            clock_hz = board.identity.clock_hz
        engine = next(part for part in part_sizes(elf) if part.part == ENGINE)
    return {"hop": round(stage.min_us * clock_hz / 1e6), "flash": engine.flash, "ram": engine.ram}
