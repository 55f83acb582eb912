"""The cycle model: hand-computed blocks, the decoder against an independent one, executed totals, native counter
against Python's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from emulator_bare import build, needs_compiler, run_to_finish

from host.emulator.cycles.cost import block_cost, prefix_cost
from host.emulator.cycles.thumb import Kind, decode
from host.emulator.cycles.timing import EXPECTED
from host.emulator.image.load import load_image
from host.emulator.report import function_profile
from host.firmware_build import compiler


def assemble(folder: Path, text: str) -> bytes:
    needs_compiler()
    source, made, raw = folder / "block.s", folder / "block.o", folder / "block.bin"
    source.write_text(".syntax unified\n.thumb\n.cpu cortex-m4\n.fpu fpv4-sp-d16\n" + text.replace(";", "\n") + "\n")
    flags = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=softfp"]
    subprocess.run([compiler(), *flags, "-c", str(source), "-o", str(made)], check=True)
    subprocess.run([compiler().replace("-gcc", "-objcopy"), "-O", "binary", str(made), str(raw)], check=True)
    return raw.read_bytes()


# (block, ideal cycles, low, instructions); taken branches at the end add 2 (low 1) unless they may fall through
BLOCKS = [
    ("adds r0, r1, r2; muls r0, r3; mla r0, r1, r2, r3; smlad r0, r1, r2, r3; smlald r0, r1, r2, r3", 5, 5, 5),
    ("ldr r0, [r1]", 2, 1, 1),
    ("ldr r0, [r1]; ldr r2, [r3]", 3, 2, 2),  # the second does not depend on the first
    ("ldr r0, [r1]; ldr r2, [r0]", 4, 2, 2),  # it does
    ("ldr r0, [r1]; ldr r2, [r3, r0]", 4, 2, 2),
    ("ldr r0, [r1]; adds r3, r3, #1; ldr r2, [r3]", 5, 3, 3),
    ("ldrb r0, [r1]; ldrsh r2, [r3, #4]; ldr r4, [pc, #0]", 4, 3, 3),
    ("str r0, [r1]", 1, 1, 1),
    ("str r0, [r1, r2]", 2, 1, 1),
    ("ldr r3, [r4]; str r0, [r1, r2]", 3, 2, 2),  # directly after a load: free
    ("ldrd r0, r1, [r2]; strd r0, r1, [r2, #8]", 6, 6, 2),
    ("ldmia r0!, {r1-r4}; stmia r0!, {r1-r4}", 10, 10, 2),
    ("push {r4-r7, lr}", 6, 6, 1),
    ("push.w {r4-r11, lr}", 10, 10, 1),
    ("pop {r4-r7, pc}", 8, 7, 1),
    ("ldmia.w sp!, {r4-r11, pc}", 12, 11, 1),
    ("ldr pc, [r0]", 4, 2, 1),
    ("bx lr", 3, 2, 1),
    ("blx r3", 3, 2, 1),
    ("bl .+100", 3, 2, 1),
    ("b .+100", 3, 2, 1),
    ("tbb [pc, r0]", 4, 3, 1),
    ("mov pc, r3", 3, 2, 1),
    ("sdiv r0, r1, r2; udiv r0, r1, r2", 12, 12, 2),
    ("vfma.f32 s0, s1, s2; vmla.f32 s0, s1, s2; vfnms.f32 s0, s1, s2", 9, 9, 3),
    ("vdiv.f32 s0, s1, s2; vsqrt.f32 s0, s1", 28, 28, 2),
    ("vadd.f32 s0, s1, s2; vmul.f32 s0, s1, s2; vcvt.s32.f32 s0, s1; vmov s0, r0", 4, 4, 4),
    ("vldr s0, [r0]; vstr s0, [r0]", 4, 3, 2),
    ("vldmia r0!, {s0-s7}; vpush {s16-s23}", 18, 18, 2),
    ("it eq; addeq r0, r1", 2, 2, 2),
    ("ldrex r0, [r1]; strex r2, r0, [r1]; mrs r0, primask", 6, 5, 3),
]


@pytest.mark.parametrize(("text", "ideal", "low", "count"), BLOCKS)
@pytest.mark.parametrize("address", [0x1000, 0x1006, 0x00804000, 0x20004002])
def test_block_costs_as_counted_by_hand(
    tmp_path: Path, text: str, ideal: int, low: int, count: int, address: int
) -> None:
    cost = block_cost(assemble(tmp_path, text), address)
    assert (cost.ideal, cost.low, cost.instructions) == (ideal, low, count)
    assert low <= cost.expected <= cost.expected + cost.bus <= cost.high and cost.expected <= cost.uncached <= cost.high


@pytest.mark.parametrize(
    ("text", "ideal"), [("cmp r0, r1; bne .-2", 2), ("cbz r0, .+20", 1), ("it eq; bxeq lr", 2), ("beq.w .+2000", 1)]
)
def test_a_branch_that_may_fall_through_pays_its_refill_only_when_taken(tmp_path: Path, text: str, ideal: int) -> None:
    cost = block_cost(assemble(tmp_path, text), 0x1000)
    assert (cost.ideal, cost.conditional, cost.taken.ideal) == (ideal, True, 2)


FLASH, ALIAS, SYSTEM = 0x1000, 0x00804000, 0x20004000
# (loop, where, instruction cache, cycles a turn as others measured them: docs/chip.md, "Loops")
LOOPS = [
    ("subs r0, #1; bne .-2", FLASH, True, 3),
    ("str r1, [r2]; str r1, [r3]; subs r0, #1; bne .-6", FLASH, True, 5),
    ("nop; subs r0, #1; bne .-4", FLASH, False, 4),
    ("nop; subs r0, #1; bne .-4", FLASH + 8, False, 5),
    ("nop; subs r0, #1; bne .-4", FLASH + 14, False, 6),
    ("subs r0, #1; bne .-2", ALIAS, False, 3),
    ("subs r0, #1; bne .-2", SYSTEM, False, 4),
]


@pytest.mark.parametrize(("text", "address", "cache", "turn"), LOOPS)
def test_loops_take_the_cycles_that_others_measured(
    tmp_path: Path, text: str, address: int, cache: bool, turn: int
) -> None:
    cost = block_cost(assemble(tmp_path, text), address)
    back = EXPECTED.line_wait if not cache and cost.end_line != cost.first_line else 0
    again = cost.taken.expected if cache else cost.taken.uncached
    assert (cost.expected if cache else cost.uncached) + again + back == turn


def test_loads_and_fetches_meet_on_the_system_bus_alone(tmp_path: Path) -> None:
    """32-bit instructions leave the bus no room: a store holds the next fetch up; a load's second cycle lets it by."""
    kinds = {"str.w r3, [r4]": 7, "ldr.w r3, [r4]": 0}  # behind the last of eight there is nothing more to fetch
    for access, waits in kinds.items():
        block = assemble(tmp_path, "; ".join([f"smlad r0, r1, r2, r0; {access}; smlad r0, r1, r2, r0"] * 8))
        assert [block_cost(block, address).bus for address in (FLASH, ALIAS, SYSTEM)] == [0, waits, waits]
    narrow = assemble(tmp_path, "; ".join(["adds r0, r1, r2; str r3, [r4]; adds r0, r0, r2"] * 8))
    assert block_cost(narrow, SYSTEM).bus == 0


def test_prefix_of_a_block(tmp_path: Path) -> None:
    code = assemble(tmp_path, "ldr r0, [r1]; ldr r2, [r3]; adds r0, r0, r2; str r0, [r1]")
    assert [prefix_cost(code, 0x100, 0x100 + 2 * index) for index in range(4)] == [0, 2, 3, 4]


def test_decoder_agrees_with_capstone_on_a_whole_image(tmp_path: Path) -> None:
    capstone = pytest.importorskip("capstone")
    elf = build(tmp_path, "echo.c", board_layer=True)
    image = load_image(elf)
    memory = {address: data for address, data in image.segments}
    base, code = next(iter(memory.items()))
    engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    engine.detail = True
    seen = 0
    for function in image.functions:
        body = code[function.address - base : function.address - base + function.size]
        theirs = list(engine.disasm(body, function.address))
        ours = decode(body[: sum(one.size for one in theirs)], function.address)
        assert [one.size for one in ours] == [one.size for one in theirs], function.name
        for mine, other in zip(ours, theirs, strict=True):
            name = other.mnemonic.split(".")[0]
            loads_one = name.startswith(("ldr", "vldr")) and not name.startswith("ldrd")
            loads = name.startswith(("ldr", "ldm", "pop", "vldr", "vldm", "vpop")) or name in ("tbb", "tbh")
            stores = name.startswith(("str", "stm", "push", "vstr", "vstm", "vpush"))
            assert mine.touches_memory == (loads or stores), f"{other.mnemonic} {other.op_str}"
            assert (mine.kind in (Kind.LOAD, Kind.LOAD_FLOAT)) == loads_one, other.mnemonic
            seen += 1
    assert seen > 300


@pytest.fixture(scope="module")
def exceptions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("cycles"), "exceptions.c", "results.c")


def test_native_and_python_counters_agree_in_every_figure(exceptions: Path, tmp_path: Path) -> None:
    peripherals = build(tmp_path, "peripherals.c", "results.c")
    for elf in (exceptions, peripherals):
        native, python = (run_to_finish(elf, native=kind) for kind in (None, False))
        if native.core.counter.name != "native":
            pytest.skip("no C compiler for the native counter on this machine")
        assert native.report() == python.report()
        assert function_profile(native.core.counter, native.image) == function_profile(
            python.core.counter, python.image
        )


def test_totals_are_the_sum_of_blocks_branches_and_exceptions(exceptions: Path) -> None:
    board = run_to_finish(exceptions)
    report = board.report()
    blocks = sum(
        record.executed * record.cost.ideal + record.taken * record.cost.taken.ideal
        for record in board.core.counter.records()
    )
    instructions = sum(record.executed * record.cost.instructions for record in board.core.counter.records())
    overhead = report.cycles_ideal - blocks
    assert report.instructions == instructions
    assert (
        18 * report.exceptions <= overhead <= 24 * report.exceptions
    )  # 12 in and 12 out, 6 where two follow each other
    assert report.cycles_low <= report.cycles_ideal <= report.cycles_high
    assert report.cycles_low <= report.cycles_awake <= report.cycles_high
