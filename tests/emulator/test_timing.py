"""Expected cycles: RAM's two addresses, where loads are thought to go, what the cache keeps, published loops."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codegen_graphs import tinyconv_like
from emulator_bare import BARE, build, needs_compiler, results_of, run_to_finish
from kernels_on_host import NN, SOURCES
from unicorn import unicorn_const as uc_const

from converter.aot.emit import render_aot
from host.emulator.board import VirtualBoard
from host.emulator.cycles.accesses import Group, accesses_of
from host.emulator.cycles.timing import EXPECTED, slave_of
from host.emulator.session.launcher import launch
from host.errors import HostError
from host.firmware_build import ROOT, build_firmware
from host.measure.bench import against
from host.measure.calibrate import LOOPS, board_rows, calibrate


@pytest.mark.parametrize("native", [None, False])
def test_code_written_at_one_address_of_ram_runs_at_the_other(tmp_path: Path, native: bool | None) -> None:
    board = run_to_finish(build(tmp_path, "two_addresses.c", "results.c"), native=native)
    assert results_of(board) == [1, 101, 101, 2, 102, 102, 3, 103, 103]


def engine(folder: Path, ram_budget: int | None) -> Path:
    """Start-up and one TinyConv inference."""
    for name, text in render_aot(tinyconv_like(0), ram_budget=ram_budget).items():
        (folder / name).write_text(text)
    sources = [BARE / "counted.c", folder / "model_aot.c", *SOURCES]
    return build(folder, *map(str, sources), flags=[f"-I{path}" for path in (folder, NN, BARE)])


@pytest.mark.parametrize("ram_budget", [0, None])
def test_words_loaded_from_flash_are_those_that_unicorn_sees(tmp_path: Path, ram_budget: int | None) -> None:
    """The counter tells them by registers alone; a hook at every access, which it does without, counts the same."""
    board = VirtualBoard(engine(tmp_path, ram_budget))
    seen = 0

    def count(uc: Any, access: int, address: int, size: int, value: int, user: Any) -> None:
        nonlocal seen
        seen += 1

    board.core.uc.hook_add(uc_const.UC_HOOK_MEM_READ, count, begin=0, end=0x000FFFFF)
    finished = board.image.objects["finished"].address
    assert board.run(5.0, lambda: board.read_word(finished) != 0)
    counted = board.core.counter.state.flash_words
    print(f"{counted:,} words counted, {seen:,} seen")
    assert seen > 5_000 and abs(counted - seen) < 0.01 * seen


def test_constants_in_ram_and_code_at_its_other_address_leave_few_waits(tmp_path: Path) -> None:
    reports = []
    for ram_budget in (0, None):
        (tmp_path / str(ram_budget)).mkdir()
        reports.append(run_to_finish(engine(tmp_path / str(ram_budget), ram_budget)).report())
    in_flash, placed = reports
    assert placed.cycles_flash_data < 0.2 * in_flash.cycles_flash_data
    assert placed.cycles_bus < 0.03 * placed.cycles_ideal
    assert placed.cycles_low < placed.cycles_awake < placed.cycles_high


def test_a_pointer_that_the_block_loads_tells_where_its_words_are() -> None:
    """ldr r1, [sp, #4]; ldr r0, [r1, #8]; adds r1, #4; ldr r2, [r1, r3]"""
    found = accesses_of(bytes.fromhex("0199 8868 0431 ca58".replace(" ", "")), 0x1000)
    pointer = (((13, 1),), 4)
    assert found.groups == (
        Group(*pointer, 1, False),
        Group(*pointer, 1, False, ((), 0)),
        Group(*pointer, 1, False, (((3, 1),), 0)),
    )
    assert (found.words, found.literal_words, found.unknown_words) == (3, 0, 0)


def test_slaves_of_ram() -> None:
    """Product Specification, "Memory": two sections of 4 KB each behind slaves 0 to 7, the rest behind slave 8."""
    addresses = {0x20000000: 0, 0x20001FFF: 0, 0x20002000: 1, 0x0080FFFF: 7, 0x20010000: 8, 0x2003FFFF: 8}
    assert {address: slave_of(address) for address in addresses} == addresses


def _at(board: VirtualBoard, address: int) -> bool:
    return board.read_word(address) != 0


def test_a_smaller_cache_misses_more(tmp_path: Path) -> None:
    elf = engine(tmp_path, 0)
    reports = []
    for timing in (replace(EXPECTED, cache_bytes=64), EXPECTED, None):
        board = VirtualBoard(elf, timing=timing)
        board.core.clock.set_cache(True)
        finished = board.image.objects["finished"].address
        assert board.run(5.0, functools.partial(_at, board, finished))
        reports.append(board.report())
    small, usual, ideal = reports
    assert small.cycles_misses > 10 * usual.cycles_misses > 0
    assert usual.cycles_misses == ideal.cycles_misses and small.cycles_awake > usual.cycles_awake
    assert ideal.cycles_awake == ideal.cycles_ideal  # this clock counts what there would be, and does not wait


def test_published_loops_take_their_cycles_on_the_board() -> None:
    needs_compiler()
    assert {one.name: one.expected for one in calibrate()} == {loop.name: loop.measured for loop in LOOPS}


@pytest.mark.slow
def test_a_board_is_compared_with_the_image_it_runs(tmp_path: Path) -> None:
    """The board here is a virtual one too, so every stage agrees; an image of another model is refused."""
    elf = build_firmware(None, tmp_path)
    with launch(elf) as port:
        found = board_rows(port, elf)
    assert len(found) >= 10 and {one.name for one in found} >= {"inference", "inference (stream), cache off"}
    *stages, hits, misses = found
    assert all(abs(one.error) < 1 and one.ideal > 0 for one in stages), found  # a tick of the timer more or less
    assert (hits.name, misses.name) == ("cache hits, inference", "cache misses, inference")
    assert hits.measured > 100 and abs(hits.error) < 5 and abs(misses.measured - misses.expected) < hits.measured / 20
    other = build_firmware(ROOT / "firmware" / "generated_spotter", tmp_path / "other")
    with launch(other) as port, pytest.raises(HostError, match="flash this image"):
        board_rows(port, elf)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no readable JSON"),
        ('{"rows": []}', "rows"),
        ('{"rows": [{"name": "a", "source": "b", "measured_cycles": -1, "image": "x.elf"}]}', "measured_cycles"),
        ('{"rows": [{"name": "a", "source": "b", "measured_cycles": 1e400, "image": "x.elf"}]}', "measured_cycles"),
        ('{"rows": [{"name": "a", "source": "b", "measured_cycles": 5}]}', "image"),
    ],
)
def test_measurements_that_make_no_sense_are_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    needs_compiler()
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(HostError, match=told) as error:
        calibrate([tmp_path / "rows.json"])
    assert "\n" not in str(error.value)


def test_what_grew_is_told() -> None:
    before = {"window_cycles": 1000.0, "flash_bytes": 50_000.0, "slice_cycles": 100.0, "speed": 3.0, "gone_cycles": 1.0}
    now = {"window_cycles": 1015.0, "flash_bytes": 51_001.0, "slice_cycles": 90.0, "speed": 30.0, "new_cycles": 7.0}
    moved, grown = against(before, now)
    assert grown == ["flash_bytes"]
    assert [line.split(":")[0] for line in moved] == ["flash_bytes", "slice_cycles", "window_cycles"]
