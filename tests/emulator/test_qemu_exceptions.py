"""Small programs of ours on the virtual board: exception rules and instructions as on QEMU's Cortex-M4, the chip's
parts by the book."""

from __future__ import annotations

from pathlib import Path

import pytest
from emulator_bare import build, needs_qemu, results_of, run_on_qemu, run_to_finish
from instruction_streams import stream

from host.emulator.cycles.timing import EXPECTED


def _on_both(folder: Path, *names: str) -> tuple[list[int], list[int]]:
    needs_qemu()
    ours = results_of(run_to_finish(build(folder / "board", *names)))
    return ours, run_on_qemu(build(folder / "qemu", *names, flags=["-DUNDER_QEMU"]))


def test_exceptions_as_on_qemu(tmp_path: Path) -> None:
    """Preemption, following, equal priorities, PRIMASK, BASEPRI, BASEPRI_MAX, FAULTMASK, PendSV, SVC on both stacks, FP
    frames, WFI, IT."""
    ours, qemu = _on_both(tmp_path, "exceptions.c", "results.c")
    assert ours == qemu
    assert len(ours) == 107


@pytest.mark.parametrize("seed", range(6))
def test_random_instruction_streams_as_on_qemu(tmp_path: Path, seed: int) -> None:
    """600 random integer, DSP and floating point instructions a stream; registers, flags and FPSCR after each 30."""
    source = tmp_path / "stream.S"
    source.write_text(stream(seed))
    ours, qemu = _on_both(tmp_path, str(source), "results.c")
    assert ours == qemu
    assert len(ours) == 520


def test_peripherals_by_the_product_specification(tmp_path: Path) -> None:
    board = run_to_finish(build(tmp_path, "peripherals.c", "results.c"))
    (
        timer,
        rtc,
        rtc_count,
        counted,
        uncached,
        cached,
        hits,
        misses,
        hits_again,
        in_ram,
        slept_us,
        awake,
        randoms,
        flash,
        erased,
        part,
        reset_pin,
    ) = results_of(board)
    assert 80_000 <= timer <= 80_020  # ten interrupts of 500 us at 16 MHz, and the last wake-up
    assert 800_781 <= rtc <= 800_800 and rtc_count == 1640
    assert counted == 100  # 1005 us, one PPI event each 10 us
    # ldr, 1000 subs, 999 taken branches and one not; a line that was not in the cache
    assert cached == 2 + 1000 + 999 * 2 + 1 + EXPECTED.miss
    assert uncached >= cached
    assert 1000 <= hits <= 1020 and 1 <= misses <= 10 and hits_again < 5  # a line or two a turn, and the way there
    assert 3000 <= in_ram <= 4100
    assert slept_us == 1000 and 0 < awake < 1000
    assert randoms == randoms & 0xFF and randoms.bit_count() > 4
    assert (flash, erased, part, reset_pin) == (0x600DF1A5, 0xFFFFFFFF, 0x52840, 18)
    assert board.report().unmodelled == ["SAADC+0x500 ENABLE (write)"]
    assert board.report().cache_on


def test_resets_watchdog_interconnect_and_pins(tmp_path: Path) -> None:
    board = run_to_finish(build(tmp_path, "interconnect.c", "results.c"))
    phase, kept, reason, cleared_at, forked, edges, down, up, again_down, stopped, temperature = results_of(board)
    assert (phase, kept, reason) == (3, 0x84, 2)  # the watchdog's warning came, and the program's own reset before it
    assert 485 <= cleared_at <= 500 and forked == 1  # 1500 us less 33 ticks of 32,768 Hz
    assert (edges, down, up, again_down) == (5, 0, 1, 0)
    assert (stopped, temperature) == (100, 100)
    report = board.report()
    assert report.resets == 2 and report.unmodelled == []
    assert 0.05 < report.seconds < 0.065  # 40 ms fed, 10 ms starved, and the rest


def test_flash_is_written_and_erased_by_the_product_specification(tmp_path: Path) -> None:
    """Refused: read only, while erasing, bytes, halves, unaligned words, FICR. Words go from ones to zeros and take 41
    us each."""
    for native in (None, False):
        found = results_of(run_to_finish(build(tmp_path, "flash.c", "results.c"), native=native))
        page, erased = 0xFE000, 0xFFFFFFFF
        refused = [word for where in (page, page, page, page, page + 2, 0x10000100) for word in (0x8200, where)]
        assert found[:13] == [*refused, erased]
        assert found[13:16] == [41, 0xFFFF00F0, 0x0F0F00F0]
        assert found[16:27] == [
            7 * 41,
            1,
            2,
            3,
            1,
            2,
            erased,
            3,
            erased,
            0,
            erased,
        ]  # STM, STRD, STR, and one in an IT block
        assert found[27:29] == [1, 0x12345678]  # from RAM the core goes on meanwhile
        assert found[29:32] == [85, 1, erased]
        assert found[32:35] == [7, erased, 85]  # four partial erases of 17 ms are not enough, five are
        assert found[35:] == [0xABCD1234, 18, erased]


def test_what_ends_a_sleep(tmp_path: Path) -> None:
    """WFE: an interrupt, an event, with SEVONPEND a masked or disabled one; SLEEPONEXIT until a handler takes it away;
    late arrivals."""
    board = run_to_finish(build(tmp_path, "sleep.c", "results.c"))
    woken, ticks, at_once, masked, still, disabled, same, slept, handled, odd, both = results_of(board)
    assert 100 <= woken <= 101 and ticks == 1 and at_once - woken <= 2  # us; the way to sleep and back takes one
    assert {masked, disabled} <= {100, 101} and (still, same) == (1, 1)
    assert slept == 1 and 19 <= handled <= 20  # a millisecond of interrupts every 50 us, main not once
    assert (odd, both) == (0, 1)  # the better one first wherever both wait, the other never lost
