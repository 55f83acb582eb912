"""Blocks that are run instruction by instruction: Unicorn does not stop in an IT block, and goes on behind a store that
fails there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicorn import arm_const as arm

from host.emulator.cpu.exceptions import IT_BITS
from host.emulator.cpu.faults import guarded_trouble, take_fault
from host.emulator.cycles.counter import STOP_NONE
from host.emulator.cycles.guards import FLOATING_POINT, it_state_at

if TYPE_CHECKING:
    from host.emulator.board import VirtualBoard


def step_through(board: VirtualBoard, index: int) -> None:
    """Run a block instruction by instruction until control goes elsewhere."""
    guards = board.blocks.guards(index)
    for at, end in board.blocks.instructions(index):
        guard = guards.get(at)
        if guard is not None and board.cpu.passes:
            if guard.kind == FLOATING_POINT:
                board.on_float(at)
            if not board.fpu_on if guard.kind == FLOATING_POINT else board.counter.is_hit(guard):
                board.counter.state.stop_reason = STOP_NONE
                take_fault(board, guarded_trouble(board.blocks.code(at, 4), board.fpu_on))
                return
        board.stepped = index, at
        board.step(end)
        board.stepped = None
        if board.cpu.pc != end:
            return


def back_to_step(board: VirtualBoard) -> None:
    """A store in an IT block that failed leaves PC behind it: back to it."""
    if board.stepped is not None and board.cpu.pc != board.stepped[1]:
        index, at = board.stepped
        address, size, _ = board.counter.costs[index]
        it_state = it_state_at(board.blocks.code(address, size), address, at)
        board.uc.reg_write(arm.UC_ARM_REG_PC, at | 1)
        board.uc.reg_write(arm.UC_ARM_REG_XPSR, board.register("xpsr") & ~IT_BITS | it_state)
    board.stepped = None
