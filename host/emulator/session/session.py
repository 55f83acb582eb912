"""Run a board with its serial line on a port: at full speed while there is work, in real time while it only waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from host.emulator.board import VirtualBoard
from host.emulator.session.ports import NoPort, PtyPort, TcpPort

# Seconds that an idle board may run ahead of the host's clock, or fall behind before it gives up catching up
_AHEAD, _BEHIND = 0.005, 0.05


class Session:
    """The board between host and serial line. The board stands still while no reader is attached, or while the reader
    is behind."""

    def __init__(
        self,
        board: VirtualBoard,
        port: TcpPort | PtyPort | NoPort,
        done: Callable[[], bool],
        real_time: bool = False,
        on_serial: Callable[[bytes], None] | None = None,
        look: Callable[[], None] | None = None,
    ) -> None:
        self.board, self.port, self._done, self._real_time = board, port, done, real_time
        self._on_serial, self._look = on_serial, look  # given what the board sends; called now and then
        self.transcript = b""  # the last of what the board sent
        self._unsent = b""
        self._alone = False  # nobody talks to the board and its run has an end: an idle board waits for no one
        self._anchor = time.monotonic(), 0.0
        board.poll, board.pace = self._exchange, self._pace

    def run(self, seconds: float | None = None, text: bytes | None = None) -> None:
        """Until so much board time has passed, the board has sent `text`, or done() says so."""
        self._alone = isinstance(self.port, NoPort) and (seconds is not None or text is not None)
        self._wait_for_reader()
        self.board.run(seconds, lambda: self._done() or (text is not None and text in self.transcript))
        self._flush()

    def _wait_for_reader(self) -> None:
        if not self.port.attached:
            while not self._done() and not self.port.wait_attached(0.2):
                pass
            self._anchor = time.monotonic(), self.board.seconds

    def _exchange(self) -> None:
        if self._look:
            self._look()
        self._flush()
        self._wait_for_reader()
        data = self.port.read()
        if data:
            self.board.send(data)

    def _flush(self) -> None:
        sent = self.board.take_output()
        if sent:
            self.transcript = (self.transcript + sent)[-4096 - len(sent) :]
            self._unsent += sent
            if self._on_serial:
                self._on_serial(sent)
        while self._unsent and not self._done():
            self._unsent = self.port.write(self._unsent)
            if self._unsent:
                self._wait_for_reader()

    def _busy(self) -> bool:
        chip = self.board.chip
        listening = chip.microphone.running and not chip.microphone.exhausted
        return listening or bool(chip.console.host_to_board) or chip.console.is_sending

    def _pace(self, cycles: int) -> int:
        """Let the host's clock catch up with an idle board; input ends the wait."""
        if self._real_time or not (self._alone or self._busy()):
            host, board = self._anchor
            ahead = (self.board.seconds - board) - (time.monotonic() - host)
            if ahead > _AHEAD:
                self.port.wait_input(ahead)
            elif ahead < -_BEHIND:
                self._anchor = time.monotonic(), self.board.seconds
        else:
            self._anchor = time.monotonic(), self.board.seconds
        return cycles
