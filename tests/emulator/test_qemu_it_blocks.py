"""IT blocks of one to four instructions with every form of load and store: as on QEMU's Cortex-M4, whether the virtual
board runs a block at once or instruction by instruction."""

from __future__ import annotations

from pathlib import Path

import pytest
from emulator_bare import build, needs_qemu, results_of, run_on_qemu, run_to_finish
from it_streams import LOADS_AND_STORES, it_blocks

FLASH, TRAPS, SYSTICK = 1, 2, 4  # WATCHED of it_blocks.c


def _same_as_on_qemu(folder: Path, seed: int, blocks: int, watched: int) -> None:
    """Faults of unaligned pairs come at both conditions, in loops of one basic block, across pages, and a handler goes
    back into the block."""
    needs_qemu()
    source = folder / "blocks.S"
    source.write_text(it_blocks(seed, blocks))

    def elf(name: str, *flags: str) -> Path:
        return build(folder / name, "it_blocks.c", str(source), "results.c", flags=["-DPASSES=4", *flags])

    qemu = run_on_qemu(elf("qemu", "-DUNDER_QEMU", f"-DWATCHED={watched & TRAPS}"))
    assert len(qemu) == 4 * blocks == len(set(qemu))
    for native in (None, False):
        ours = results_of(run_to_finish(elf("board", f"-DWATCHED={watched}"), 60.0, native=native))
        wrong = {number % blocks for number, pair in enumerate(zip(ours, qemu, strict=True)) if pair[0] != pair[1]}
        assert not wrong, f"seed {seed}: blocks {sorted(wrong)} of {source}"


@pytest.mark.parametrize("watched", [0, FLASH, TRAPS, SYSTICK])
def test_it_blocks_as_on_qemu(tmp_path: Path, watched: int) -> None:
    _same_as_on_qemu(tmp_path, 1, 60, watched)


@pytest.mark.slow  # 16,000 runs of a block
@pytest.mark.parametrize("seed", range(2, 22))
def test_many_it_blocks_as_on_qemu(tmp_path: Path, seed: int) -> None:
    _same_as_on_qemu(tmp_path, seed, 200, (0, FLASH, TRAPS, FLASH | TRAPS)[seed % 4])


def test_the_streams_hold_every_form() -> None:
    names = {form.replace("{c}", "").split(" ")[0].split(".")[0] for form in LOADS_AND_STORES}
    expected = "ldr ldrb ldrh ldrsb ldrsh str strb strh ldrd strd ldmia stmia ldmdb stmdb ldrex strex vldr vstr vldmia"
    assert set(expected.split()) <= names and len(LOADS_AND_STORES) == len(set(LOADS_AND_STORES)) > 100


@pytest.mark.parametrize("native", [None, False])
def test_a_loop_of_one_block_that_is_stepped_ends(tmp_path: Path, native: bool | None) -> None:
    """A sort's conditional LDRD and STRD: each turn of the loop used to be a call within the last one."""
    board = run_to_finish(build(tmp_path, "it_loop.S", "results.c"), 1.0, native=native)
    assert results_of(board) == [2, 1, 4, 3]
