"""What Unicorn does not notice and the virtual board must: unaligned accesses, trap bits, faults and whose handler
takes them."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from emulator_bare import build, needs_qemu, results_of, run_on_qemu, run_to_finish
from unicorn import arm_const as arm
from unicorn.unicorn_py3 import UcError

from host.emulator import BoardError
from host.emulator.board import VirtualBoard
from host.emulator.cpu.exceptions import make_engine
from host.emulator.cycles.affine import ADDRESS, ALIGNMENT, Registers
from host.emulator.cycles.preconditions import exact_preconditions, preconditions_of
from host.emulator.cycles.thumb import decode, halves_of
from host.emulator.image.elf import RAM_BYTES, RAM_START
from host.emulator.image.load import load_image

ROOT = Path(__file__).resolve().parents[2]
REGISTERS = [*range(arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R0 + 13), arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR]


@pytest.mark.parametrize(("name", "count"), [("traps.c", 538), ("scenes.c", 799)])
def test_faults_groups_orders_and_late_frames_as_on_qemu(tmp_path: Path, name: str, count: int) -> None:
    """traps: unaligned LDRD, LDM, VLDR..., in IT blocks too, escalation, NOCP, jumps. scenes: PRIGROUP, tail-chaining,
    lazy FP, INVPC."""
    needs_qemu()
    qemu = run_on_qemu(build(tmp_path / "qemu", name, "results.c", flags=["-DUNDER_QEMU"]))
    elf = build(tmp_path / "board", name, "results.c")
    for native in (None, False):
        assert results_of(run_to_finish(elf, native=native)) == qemu
    assert len(qemu) == count


@pytest.mark.parametrize("native", [None, False])
def test_trap_bits_trap_while_they_are_set(tmp_path: Path, native: bool | None) -> None:
    def touched(where: int, times: int, moved: int) -> list[int]:
        return [0xE0 + where, *[0x100, 1 << 30] * times, moved]

    without = [0x000003, *(word for where in range(4) for word in touched(where, 0, 3))]
    with_bits = [
        *[0x200, 1 << 30] * 2,
        0x636303,
        *touched(0, 1, 3),
        *touched(1, 10, 0),
        *touched(2, 7, 0),
        *touched(3, 9, 0),
    ]
    found = results_of(run_to_finish(build(tmp_path, "trap_bits.c", "results.c"), native=native))
    assert found == [0xD0, *without, 0xD1, *with_bits, 0xD2, *without]


def _random_registers(uc: Any, rng: random.Random) -> list[int]:
    values = [
        rng.randrange(1 << 32) if rng.random() < 0.3 else RAM_START + RAM_BYTES // 2 + rng.randrange(4096)
        for _ in REGISTERS
    ]
    values[13] &= ~3
    for register, value in zip(REGISTERS, values, strict=True):
        uc.reg_write(register, value)
    return values


def test_what_is_said_of_registers_is_what_the_instructions_do(tmp_path: Path) -> None:
    """Each instruction of a program, on random registers: the sums that preconditions (modulo 4) and addresses (modulo
    2**32) are built on."""
    image = load_image(build(tmp_path, "exceptions.c", "results.c", board_layer=True))
    base, code = image.segments[0]
    uc = make_engine()
    uc.mem_map(0, 0x100000)
    uc.mem_map(RAM_START, RAM_BYTES)
    rng = random.Random(5)
    known = {ALIGNMENT: 0, ADDRESS: 0}
    found = {
        (first, second)
        for one in image.functions
        for _, first, second in halves_of(code[one.address - base :][: one.size], 0)
    }
    extra = {
        (0xEB01, 0x0242),
        (0xEB01, 0x0282),
        (0xEBA3, 0x0142),
        (0xF1A2, 0x0303),
        (0xF502, 0x7381),
        (0xF6A4, 0x2301),
        (0xF243, 0x0107),
        (0xF2C3, 0x0107),
        (0xF851, 0x2B03),
        (0xF841, 0x2D05),
        (0xE8B1, 0x000C),
        (0xE9F1, 0x2301),
        (0xECB1, 0x0A02),
        (0xEC53, 0x2B10),
        (0x1C51, 0),
        (0x0051, 0),
        (0x0091, 0),
        (0x4619, 0),
        (0x4419, 0),
        (0xA902, 0),
        (0xA102, 0),
        (0x3903, 0),
        (0xB251, 0),
        (0xF3EF, 0x8109),
        (0xE8C1, 0x2F53),
        *((0xA1FF, 0), (0xA901, 0), (0xB082, 0), (0xB002, 0), (0xB406, 0), (0xB506, 0), (0xBC06, 0), (0xC106, 0)),
        *((0xC906, 0), (0xE8A1, 0x0006), (0xE92D, 0x4030), (0xE8BD, 0x0030), (0xE971, 0x2302), (0xE8E1, 0x2302)),
        *((0xECA1, 0x0A04), (0xED31, 0x0A04), (0xF2C1, 0x2134), (0xF6C1, 0x72FF), (0xF1AD, 0x0D08), (0xF20F, 0x0110)),
        *((0xF2AF, 0x0110), (0xF851, 0x2B04), (0xF841, 0x2D04), (0xF81D, 0x1B04), (0x3101, 0), (0xEB0D, 0x0102)),
    }
    for first, second in sorted(found | extra):
        raw = first.to_bytes(2, "little") + (second.to_bytes(2, "little") if first >= 0xE800 else b"")
        one = decode(raw, 0x1000)[0]
        if one.branches or first & 0xFF00 in (0xBE00, 0xBF00, 0xDE00, 0xDF00):
            continue
        uc.mem_write(0x1000, raw)
        values = _random_registers(uc, rng)
        held = [Registers(modulus) for modulus in known]
        for one_by_one in held:
            one_by_one.follow(0x1000, first, second)
        try:
            uc.emu_start(0x1001, 0x1000 + len(raw))
        except UcError:
            continue
        for registers in held:
            for number, register in enumerate(REGISTERS):
                affine = registers[number]
                if affine is not None:
                    known[registers.modulus] += 1
                    predicted = sum(by * value for by, value in zip(affine[0], values, strict=False)) + affine[1]
                    wrong = (uc.reg_read(register) - predicted) % registers.modulus
                    assert wrong == 0, f"{first:04x} {second:04x}: r{number} modulo {registers.modulus}"
    assert min(known.values()) > 3000, known


def test_one_look_at_the_start_of_a_block_finds_what_each_instruction_would() -> None:
    """adds r0, #4; ldrd r2, r3, [r0]; adds r0, #1; ldm r0, {r1}; ldr r4, [r5]; ldrd r2, r3, [r4]"""
    code = bytes.fromhex("0430 d0e90023 0130 02c8 2c68 d4e90023".replace(" ", ""))
    early, late = preconditions_of(code, 0x100, 0)
    assert [(one.address, one.terms, one.offset) for one in early] == [(0x102, ((0, 1),), 0), (0x108, ((0, 1),), 1)]
    assert [one.address for one in late] == [0x10C]
    assert [one.address for one in exact_preconditions(code, 0x100, 0)] == [0x102, 0x108, 0x10C]


def _faulty(folder: Path, number: int) -> VirtualBoard:
    return VirtualBoard(build(folder, "faults.c", flags=[f"-DFAULT={number}"]))


@pytest.mark.parametrize(
    ("number", "place", "last"),
    [
        (15, "unaligned access at unaligned_pair+0x2", "ldrd r2, r3, [r0]"),
        (16, "unaligned access at unaligned_exclusive+0x2", "strex r1, r2, [r0]"),
        (17, "division by zero, which CCR.DIV_0_TRP traps, at trapped_division+0x", "udiv r1, r0, r0"),
    ],
)
def test_a_program_without_handlers_hears_where_it_was(tmp_path: Path, number: int, place: str, last: str) -> None:
    with pytest.raises(BoardError) as told:
        _faulty(tmp_path, number).run(1.0)
    assert str(told.value).startswith(place)
    assert str(told.value).endswith(last) and "last instructions: " in str(told.value)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(3, "stack overflow (the stack pointer is 0x1fff"), (15, "unaligned access at unaligned_pair")],
)
def test_the_command_ends_with_one_sentence_and_1(tmp_path: Path, number: int, sentence: str) -> None:
    elf = build(tmp_path, "faults.c", flags=[f"-DFAULT={number}"])
    command = [sys.executable, "-m", "host", "emulate", str(elf), "--port", "none", "--until", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert sentence in done.stderr and "last instructions: " in done.stderr


def test_a_handler_that_does_not_come_back_is_given_two_seconds(tmp_path: Path) -> None:
    board = _faulty(tmp_path, 18)
    with pytest.raises(BoardError, match=r"^read of 0x30000000, where there is nothing, at read_nowhere"):
        board.run(10.0)
    assert board.seconds == pytest.approx(2.0, abs=0.01)


def test_a_fault_that_its_handler_mends_is_only_reported(tmp_path: Path) -> None:
    board = run_to_finish(build(tmp_path, "traps.c", "results.c"))
    assert board.core.trouble is None and len(board.report().survived_faults) == 20  # the first ones
    assert board.report().survived_faults[0].startswith("unaligned access at unaligned+0x")
