"""The board's serial line as the host sees it: a TCP socket or a pseudo-terminal. Bytes are never dropped: the board
waits instead."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time

from host.emulator.errors import BoardError

_CHUNK = 65536


class TcpPort:
    """Serves one reader at a time at socket://127.0.0.1:PORT; port 0 takes a free one."""

    def __init__(self, port: int) -> None:
        self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._server.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            self._server.close()
            raise BoardError(
                f"tcp:{port}: the port cannot be opened ({getattr(error, 'strerror', None) or error}); "
                "choose another, or 0 for a free one"
            ) from None
        self._server.listen(1)
        self._client: socket.socket | None = None
        self.address = f"socket://127.0.0.1:{self._server.getsockname()[1]}"

    @property
    def attached(self) -> bool:
        """Whether a reader is there."""
        return self._client is not None

    def wait_attached(self, timeout: float) -> bool:
        """Wait so many seconds for a reader; whether one is there."""
        if self._client is None and select.select([self._server], [], [], timeout)[0]:
            self._client, _ = self._server.accept()
            self._client.setblocking(False)
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.attached

    def wait_input(self, timeout: float) -> None:
        """Wait so many seconds for bytes of the host."""
        if self._client is not None:
            select.select([self._client], [], [], timeout)

    def read(self) -> bytes:
        """What the host has sent; nothing when it has sent nothing. Notices when it has gone."""
        if self._client is None:
            return b""
        try:
            found = self._client.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            found = b""
        if not found:
            self._detach()
        return found

    def write(self, data: bytes) -> bytes:
        """Send; returns what the reader has no room for yet."""
        if self._client is None:
            return data
        try:
            return data[self._client.send(data) :]
        except (BlockingIOError, InterruptedError):
            select.select([], [self._client], [], 0.1)
            return data
        except OSError:
            self._detach()
            return data

    def _detach(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def close(self) -> None:
        """Let the reader and the port go."""
        self._detach()
        self._server.close()


class PtyPort:
    """A pseudo-terminal; `address` is the device that pyserial or `pio device monitor` opens."""

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise BoardError("pty: Windows has no pseudo-terminals; use --port tcp:PORT")
        import tty

        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.address = os.ttyname(slave)
        os.close(slave)  # from now on a hang-up on the master says that nobody has the device open
        os.set_blocking(self._master, False)
        self._poll = select.poll()
        self._poll.register(self._master, select.POLLIN)

    def _events(self, timeout: float) -> int:
        found = self._poll.poll(timeout * 1000)
        return found[0][1] if found else 0

    @property
    def attached(self) -> bool:
        """Whether somebody has the device open."""
        return not self._events(0) & select.POLLHUP

    def wait_attached(self, timeout: float) -> bool:
        """As TcpPort's."""
        if not self.attached:
            time.sleep(min(timeout, 0.01))  # a hang-up makes poll() return at once
        return self.attached

    def wait_input(self, timeout: float) -> None:
        """As TcpPort's."""
        if self._events(timeout) & select.POLLHUP:
            time.sleep(min(timeout, 0.01))

    def read(self) -> bytes:
        """As TcpPort's."""
        try:
            return os.read(self._master, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            if error.errno == errno.EIO:  # nobody has it open
                return b""
            raise

    def write(self, data: bytes) -> bytes:
        """As TcpPort's."""
        try:
            return data[os.write(self._master, data) :]
        except (BlockingIOError, InterruptedError):
            select.select([], [self._master], [], 0.1)
            return data

    def close(self) -> None:
        """Let the device go."""
        os.close(self._master)


class NoPort:
    """Nobody at the other end: the board runs at once, what it sends is only looked at."""

    address = "none"
    attached = True

    def wait_attached(self, timeout: float) -> bool:
        """At once."""
        return True

    def wait_input(self, timeout: float) -> None:
        """Wait all the time: nothing comes."""
        time.sleep(timeout)

    def read(self) -> bytes:
        """Nothing."""
        return b""

    def write(self, data: bytes) -> bytes:
        """Everything is gone."""
        return b""

    def close(self) -> None:
        """Nothing to let go."""
        pass


def open_port(name: str) -> TcpPort | PtyPort | NoPort:
    """The port for "pty", "tcp:PORT" or "none"."""
    if name == "none":
        return NoPort()
    if name == "pty":
        return PtyPort()
    kind, _, number = name.partition(":")
    if kind == "tcp" and number.isdigit() and int(number) < 65536:
        return TcpPort(int(number))
    raise BoardError(f"--port {name}: must be pty or tcp:PORT (0 to 65535; 0 takes a free one), or none")
