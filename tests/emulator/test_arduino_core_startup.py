"""What the Arduino core does to peripherals before a sketch runs, as bare-metal programs on the virtual board."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from host.emulator.board import VirtualBoard
from host.firmware_build import build_bare

RESULTS = Path(__file__).parents[1] / "support" / "bare" / "results.c"
pytestmark = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")

BYTE_INTO_THE_VOID = """
#include "nrf52840.h"
#include "results.h"

static uint8_t bytes[2] = {'x', 'y'};

static void send(const uint8_t *byte) {
    UARTE(UARTE0, UARTE_TXD_PTR) = (uint32_t)byte;
    UARTE(UARTE0, UARTE_TXD_MAXCNT) = 1;
    UARTE(UARTE0, UARTE_ENDTX) = 0;
    UARTE(UARTE0, UARTE_STARTTX) = 1;
    while (!UARTE(UARTE0, UARTE_ENDTX)) {
    }
}

int main(void) {
    UARTE(UARTE0, UARTE_ENABLE) = 8;
    UARTE(UARTE0, UARTE_PSEL_TXD) = 0xFFFFFFFF;
    send(&bytes[0]);
    result(REG(UARTE0 + 0x11C));  // TXDRDY all the same
    UARTE(UARTE0, UARTE_PSEL_TXD) = 35;
    send(&bytes[1]);
    finish();
}
"""

MICROPHONE_STARTED_WITHOUT_A_BUFFER = """
#include "nrf52840.h"
#include "results.h"

static int16_t pcm[4][64];

static void record(int first) {
    PDM(PDM_SAMPLE_MAXCNT) = 0;
    PDM(PDM_ENABLE) = 1;
    PDM(PDM_STARTED) = PDM(PDM_END) = 0;
    PDM(PDM_START) = 1;
    while (!PDM(PDM_STARTED)) {
    }
    for (int block = first; block < first + 2; block++) {
        PDM(PDM_SAMPLE_PTR) = (uint32_t)pcm[block];
        PDM(PDM_SAMPLE_MAXCNT) = 64;
        PDM(PDM_STARTED) = 0;
        while (!PDM(PDM_STARTED)) {
        }
    }
    PDM(PDM_END) = 0;
    while (!PDM(PDM_END)) {
    }
    PDM(PDM_ENABLE) = 0;  // the library stops like that, without the task
}

int main(void) {
    PDM(PDM_CLKCTRL) = 0x0A000000;
    PDM(PDM_RATIO) = 1;
    record(0);
    for (volatile int wait = 0; wait < 100000; wait++) {
    }
    record(2);
    for (int block = 0; block < 4; block++)
        for (int i = 0; i < 64; i++) result((uint32_t)pcm[block][i]);
    finish();
}
"""


def run(source: str, folder: Path, pcm: NDArray[np.int16] | None = None) -> tuple[list[int], bytes]:
    """The numbers a program left and what it sent."""
    program = folder / "program.c"
    program.write_text(source)
    board = VirtualBoard(build_bare([RESULTS, program], folder / "program.elf", flags=[f"-I{RESULTS.parent}"]), pcm)
    finished = board.image.objects["finished"].address
    assert board.run(2.0, lambda: board.read_word(finished) != 0), "the program did not finish"
    count = board.read_word(board.image.objects["result_count"].address)
    base = board.image.objects["results"].address
    return [board.read_word(base + 4 * i) for i in range(count)], bytes(board.take_output())


def test_byte_sent_without_a_pin_reaches_nobody(tmp_path: Path) -> None:
    numbers, sent = run(BYTE_INTO_THE_VOID, tmp_path)
    assert (numbers, sent) == ([1], b"y")


def test_microphone_started_without_a_buffer_loses_no_sample_and_stands_while_disabled(tmp_path: Path) -> None:
    numbers, _ = run(MICROPHONE_STARTED_WITHOUT_A_BUFFER, tmp_path, np.arange(1, 10_001, dtype=np.int16))
    assert numbers == list(range(1, 257))
