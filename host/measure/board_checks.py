"""The host's side of `converter verify`: build the firmware, infer and listen on a virtual board, for the equivalence
checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converter.arrays import Pcm
from converter.errors import ConvertError
from converter.verify.checks import BoardAccess, BoardAnswer, BoardDecisions, LayerCrc
from host.emulator.errors import BoardError
from host.emulator.session.launcher import launch
from host.errors import HostError
from host.firmware_build import build_firmware
from host.link.client import Board
from host.link.expected import load_model, require_same
from host.measure import infer as inference
from host.measure import stream as streaming
from host.measure.profile import profile


def build(model_dir: Path, out_dir: Path) -> Path:
    """The image of these generated files."""
    try:
        return build_firmware(model_dir, out_dir)
    except BoardError as error:
        raise ConvertError(f"firmware: the image was not built: {error}") from None


def infer(elf: Path, model: Path, files: Sequence[Path]) -> list[BoardAnswer]:
    """Each input through the board and, layer by layer, through the host's reference."""
    expected = load_model(model)
    with _virtual_board(elf) as board:
        answers = [inference.infer(board, file, expected) for file in files]
    return [
        BoardAnswer(
            answer.features_equal,
            tuple(LayerCrc(pair.board.name, pair.board.crc32, pair.host_crc32) for pair in answer.comparisons),
        )
        for answer in answers
    ]


def listen(elf: Path, model: Path, pcm: Pcm) -> BoardDecisions:
    """Audio over the serial line into the listening board, every inference beside the host's own."""
    expected = load_model(model)
    with _virtual_board(elf) as board:
        require_same(board.identity, expected)
        result = streaming.stream(board, pcm, expected)
    return BoardDecisions(len(result.heard), bool(result.host), result.different)


def raw(elf: Path, model_id: str, inputs: Sequence[bytes]) -> list[bytes]:
    """The outputs' bytes for each input's, of the model with this id."""
    found = []
    with _virtual_board(elf) as board:
        if board.identity.model_id != model_id:
            raise ConvertError(f"{elf}: holds model {board.identity.model_id}, not {model_id}; build it again")
        for data in inputs:
            board.load_input(data)
            found.append(bytes(score & 255 for score in board.layers()[1]))
    return found


def profile_image(elf: Path, runs: int) -> dict[str, Any]:
    """Stages, layers and memory, as `host profile --json` writes them."""
    with _virtual_board(elf) as board:
        return profile(board, runs).to_json()


@contextmanager
def _virtual_board(elf: Path) -> Iterator[Board]:
    """A virtual board of its own process; what goes wrong with it is a ConvertError that names the image."""
    try:
        with launch(elf) as address, Board(address) as board:
            yield board
    except (BoardError, HostError) as error:
        raise ConvertError(f"{elf.name} on the virtual board: {error}") from None


BOARD_ACCESS = BoardAccess(build, infer, listen, raw)
