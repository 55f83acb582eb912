"""A board that listens to sound that comes piece by piece, every inference beside the host's own on the same sound."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from converter.arrays import Int8, Pcm
from host.emulator.session.launcher import launch
from host.errors import HostError
from host.firmware_build import ROOT, build_firmware, generated_in
from host.link.client import Board
from host.link.detector import Detector
from host.link.expected import COMMITTED, Hop, Listener, Model, model_of_board, require_same
from host.link.protocol import Heard

PACKET_SAMPLES = 0x7FFF  # most samples in one packet of host.emulator.peripherals.pdm.LiveSound


@dataclass(frozen=True, eq=False)
class Step:
    """One inference: the board's record, the sums of evidence per word, and, where the host knows the sound, the new
    feature frames int8 [hop_frames, channels]. same: whether the host's scores and decision are the board's; of a sound
    it does not know, whether its detector decides as the board's on the board's scores."""

    heard: Heard
    sums: tuple[int, ...]
    features: Int8 | None
    same: bool


class Listening:
    """A board with a detector. sound: the pipe into a virtual board's microphone; None for a board with its own."""

    def __init__(self, board: Board, model: Model | None, sound: BinaryIO | None) -> None:
        if board.identity.detector is None or board.identity.audio is None:
            raise HostError(f"{board.port}: the model on the board ({board.identity.model_name}) has no front end")
        if sound is not None and model is None:
            raise HostError(f"the image holds model {board.identity.model_name}; name its run folder with --run")
        self.board, self.model, self._sound = board, model, sound
        self.count = self.different = 0  # inferences since the board was opened
        self._wanted = False
        self._hops: deque[Hop] = deque()

    @property
    def has_own_microphone(self) -> bool:
        """Whether the board hears for itself, so that nothing is to be played."""
        return self._sound is None

    def begin(self) -> None:
        """Before steps() and play(): both from a fresh state."""
        self._hops.clear()
        self._wanted = True
        if self._sound is not None and self.model is not None:
            self._listener = Listener(self.model, self.board.identity)

    def require_equal(self) -> None:
        """Raises HostError where an inference differed from the host's."""
        if self.different:
            raise HostError(f"{self.different} of {self.count} inferences differ from the host's")

    def play(self, pcm: Pcm) -> None:
        """Sound for the board, and first for the host; waits while the board is far behind. HostError when it has
        ended. May be called by another thread than the one that reads steps()."""
        assert self._sound is not None
        self._hops.extend(self._listener.hear(pcm))
        for at in range(0, len(pcm), PACKET_SAMPLES):
            part = pcm[at : at + PACKET_SAMPLES].astype("<i2")
            self._write(len(part).to_bytes(2, "little") + part.tobytes())

    def end(self) -> None:
        """The sound is over: steps() ends behind its last inference, or with the next one of a board that hears for
        itself."""
        self._wanted = False
        if self._sound is not None:
            self._write(bytes(2))

    def _write(self, data: bytes) -> None:
        assert self._sound is not None
        try:
            self._sound.write(data)
        except (OSError, ValueError):  # the board has ended; or the pipe was closed, at the end of all
            raise HostError(f"{self.board.port}: the virtual board has ended; run again") from None

    def steps(self, inferences: int = 0) -> Generator[Step, None, None]:
        """One per inference as the board makes them, at most so many, 0 for no end; raises HostError."""
        spec = self.board.identity.detector
        assert spec is not None
        detector = Detector(spec, len(self.board.identity.labels))
        with contextlib.closing(self.board.listen(inferences)) as records:
            for heard in records:
                hop = self._hops.popleft() if self._hops else None
                if hop is None and (self._sound is not None or not self._wanted):
                    return  # the silence behind the sound
                detector.spec = self.board.identity.detector or spec  # retune() may have changed it
                word = detector.step(hop.scores if hop else heard.scores)
                same = word == heard.word and (hop is None or (hop.frame, hop.scores) == (heard.frame, heard.scores))
                self.count += 1
                self.different += not same
                yield Step(heard, tuple(detector.sums), hop.features if hop else None, same)


def image_of(run: Path) -> Path:
    """The image of a run folder for the virtual board, built when there is none; HostError for a folder without
    firmware."""
    elf = run / "build" / "emulator" / "firmware.elf"
    if elf.is_file():
        return elf
    committed = {path.resolve(): name for path, name in zip(COMMITTED, ("generated", "generated_spotter"), strict=True)}
    if run.resolve() in committed:
        name = committed[run.resolve()]
        return build_firmware(ROOT / "firmware" / name, ROOT / "build" / name)
    return build_firmware(generated_in(run), run / "build")


@contextmanager
def open_listening(target: str | None, run: Path | None, port: str | None = None) -> Iterator[Listening]:
    """The board that target names: a run folder or a firmware.elf for a virtual board that is played to, else a port,
    whose board hears for itself. run: the model to compare with; port: another place for the board of a run folder."""
    folder = Path(target) if target is not None and Path(target).is_dir() else None
    run = run or folder
    place = port if port is not None or target is None else str(image_of(folder)) if folder else target
    if place is None or not place.endswith(".elf"):
        with Board(place) as board:
            yield Listening(board, _model(run, board), None)
        return
    read, write = os.pipe()
    with (
        open(write, "wb", buffering=0) as sound,
        launch(place, sound=read) as address,
        contextlib.closing(sound),  # before the board is told to end: it waits for sound
        Board(address) as board,
    ):
        yield Listening(board, _model(run, board), sound)


def _model(run: Path | None, board: Board) -> Model | None:
    """What the host compares with; None for a board with a model of its own and no run named."""
    model = model_of_board(run, board.identity)
    if run is not None:
        require_same(board.identity, model)
    return model if model.graph.model_id == board.identity.model_id else None
