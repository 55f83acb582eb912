"""A pseudo-terminal between a host and a board whose line breaks, or repeats itself for ever, after so many bytes."""

from __future__ import annotations

import os
import select
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """`passed` counts the board's bytes that went through to `port`; after `after` of them the line is gone or, with
    flood, the board's last whole line comes again and again as fast as it is read."""

    def __init__(self, url: str, after: int | None = None, flood: bool = False) -> None:
        self.passed = 0
        self._after, self._flood = after, flood
        self._board = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        self._host, self._terminal = os.openpty()
        tty.setraw(self._terminal)
        os.set_blocking(self._host, False)
        self.port = os.ttyname(self._terminal)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            self._pass_on()
        self._close()

    def _pass_on(self) -> None:
        board = self._board.fileno()
        sent, ends = b"", [self._host]
        while not self._over.is_set():
            ready = select.select(ends, [], [], 0.05)[0]
            if self._host in ready:
                self._board.sendall(os.read(self._host, 4096))
                ends = [self._host, board]  # what it said before a host was there is not lost on the way
            data = self._board.recv(4096) if board in ready else b""
            while data:
                room = len(data) if self._after is None else max(1, self._after - self.passed)
                part, data = data[:room], data[room:]
                self._send(part)
                sent = (sent + part)[-20000:]
                if self._after is None or self.passed < self._after or (self._flood and not sent.endswith(b"\n")):
                    continue
                while self._flood and not self._over.is_set():
                    self._send((sent.split(b"\n")[-2] + b"\n") * 50)
                return

    def _send(self, data: bytes) -> None:
        self.passed += len(data)
        while data and not self._over.is_set():
            if select.select([], [self._host], [], 0.05)[1]:
                with suppress(BlockingIOError):
                    data = data[os.write(self._host, data) :]

    def _close(self) -> None:
        os.close(self._terminal)
        os.close(self._host)
        self._board.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)


@contextmanager
def relay(url: str, after: int | None = None, flood: bool = False) -> Iterator[Relay]:
    """The relay for a board at socket://127.0.0.1:PORT."""
    made = Relay(url, after, flood)
    try:
        yield made
    finally:
        made.close()
