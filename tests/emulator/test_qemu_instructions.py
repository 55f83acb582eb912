"""Instruction counts of the virtual board: those of QEMU's Cortex-M4 on the same image, instruction by instruction."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

from codegen_graphs import tinyconv_like
from emulator_bare import BARE, QEMU, build, needs_qemu, run_to_finish
from kernels_on_host import NN, SOURCES

from converter.aot.emit import render_aot
from host.emulator.board import VirtualBoard
from host.emulator.cycles.thumb import decode

TRACE = re.compile(r"^Trace .*\[[0-9a-f]+/([0-9a-f]+)/", re.MULTILINE)


def counts_of_qemu(elf: Path, log: Path) -> Counter[int]:
    """How often each address was executed: -singlestep makes every instruction a block, -d exec,nochain logs every
    block."""
    command = [
        QEMU,
        "-M",
        "mps2-an386",
        "-nographic",
        "-semihosting",
        "-monitor",
        "none",
        "-serial",
        "none",
        "-singlestep",
        "-d",
        "exec,nochain",
        "-D",
        str(log),
        "-kernel",
        str(elf),
    ]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    return Counter(int(address, 16) for address in TRACE.findall(log.read_text()))


def counts_of(board: VirtualBoard) -> Counter[int]:
    """The same from the blocks that the cycle model counts."""
    found: Counter[int] = Counter()
    for record in board.core.counter.records():
        code = board.core.uc.mem_read(record.address, record.size)
        instructions = decode(bytes(code), record.address)
        assert len(instructions) == record.cost.instructions
        for instruction in instructions:
            found[instruction.address] += record.executed
    return found


def test_every_instruction_runs_as_often_as_on_qemu(tmp_path: Path) -> None:
    """Start-up and one TinyConv inference with all its assembly; only finish(), which tells the two boards apart, is
    left out."""
    needs_qemu()
    for name, text in render_aot(tinyconv_like(0)).items():
        (tmp_path / name).write_text(text)
    sources = [BARE / "counted.c", tmp_path / "model_aot.c", *SOURCES]
    flags = [f"-I{path}" for path in (tmp_path, NN, BARE)]
    elf = build(tmp_path, *map(str, sources), flags=[*flags, "-UNN_CODE_RAM"])  # QEMU's RAM has one address
    board = run_to_finish(elf)
    end = next(function for function in board.image.functions if function.name == "finish")

    def counted(counts: Counter[int]) -> dict[int, int]:
        return {
            address: count
            for address, count in counts.items()
            if count and not end.address <= address < end.address + end.size
        }

    ours, qemu = counted(counts_of(board)), counted(counts_of_qemu(elf, tmp_path / "exec.log"))
    assert ours == qemu
    print(f"{sum(ours.values()):,} instructions at {len(ours):,} addresses, equal")
    assert sum(ours.values()) > 200_000
    assert 0 < board.report().instructions - sum(ours.values()) < 100  # what finish() took
