"""An open serial port with our firmware behind it: commands out, whole lines in, in step with the board."""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

import serial
from serial.tools import list_ports

from host.errors import HostError
from host.link.protocol import MAX_LINE, Failure, Line, Mark, Ready, Record, parse_line

if TYPE_CHECKING:
    from typing_extensions import Self

BAUD = 115200  # never 1200: opening the Nano's port at that speed starts its bootloader
USB_VENDOR = 0x2341
USB_SKETCH = (0x805A, 0x015A, 0x025A)  # Arduino's boards.txt, nano33ble
USB_BOOTLOADER = (0x005A,)
# A reply ends within these, and what the command asks for on top: lines, bytes, and time-outs of a line.
MOST_LINES, MOST_BYTES, MOST_TIMEOUTS = 4096, 1_000_000, 10
BYTES_PER_RECORD = 256
NAME_S = 5.0  # within which a board on a cable says its name, whatever it was at; a virtual one may be slow
SLOWER = 4  # than the first record, that command and all, each further one may be
POLL_S, READ_BYTES = 0.1, 4096
# The board as a host wants to find it whatever the last one left it at; what that one had half sent is no command.
REST = "?%stop%cache 1%"
_BOOT_MARKS = ("timestamp-mode-performance", "init-done")


def find_port() -> str:
    """The port of the one Nano 33 BLE plugged in."""
    ports = [port for port in list_ports.comports() if port.vid == USB_VENDOR]
    boards = [port.device for port in ports if port.pid in USB_SKETCH]
    if len(boards) == 1:
        return str(boards[0])
    if boards:
        raise HostError(f"several boards are plugged in ({', '.join(boards)}); name the PORT")
    if any(port.pid in USB_BOOTLOADER for port in ports):
        raise HostError("the board waits in its bootloader; press its reset button once, or upload the firmware")
    raise HostError(
        "no Nano 33 BLE found by its USB id; plug it in or name the PORT (/dev/ttyACM0, COM3, socket://host:port)"
    )


def _open(port: str) -> serial.SerialBase:
    try:
        link = serial.serial_for_url(port, baudrate=BAUD, timeout=POLL_S, write_timeout=30, do_not_open=True)
        if sys.platform != "win32" and "://" not in port:
            link.exclusive = True
        link.open()
    except Exception as error:  # also termios.error, which is no OSError
        raise HostError(_why_not(port, error)) from None
    return link


def _why_not(port: str, error: Exception) -> str:
    text = str(error)
    if "exclusively lock" in text or "Access is denied" in text or "busy" in text.lower():
        return f"{port}: the port is in use by another program; close it (serial monitor, another run)"
    if "Permission denied" in text or "Errno 13" in text:
        return (
            f"{port}: no permission; add yourself to the port's group (Debian: sudo usermod -aG dialout $USER, "
            f"then log in again)"
        )
    if "No such file" in text or "FileNotFoundError" in text or "could not find" in text.lower():
        return f"{port}: no such port, run folder or image; `python -m host ports` lists what is plugged in"
    if "refused" in text:
        return (
            f"{port}: nobody listens there; start the virtual board first (python -m host emulate ELF --port tcp:PORT)"
        )
    if "debug|info" in text or "NoneType" in text:  # pyserial's own messages for a port that is none, and for no port
        return f"{port}: cannot be opened; a network address is socket://HOST:PORT, PORT from 0 to 65535"
    if "Inappropriate ioctl" in text:
        return f"{port}: is no serial port; `python -m host ports` lists what is plugged in"
    return f"{port}: cannot be opened ({text.splitlines()[0] if text else type(error).__name__})"


class Wire:
    """The lines of a board, for the commands of host/link/client.py. Use as a context manager."""

    def __init__(self, port: str | None, timeout_s: float) -> None:
        self.port = port or find_port()
        self.timeout_s = timeout_s
        self._link = _open(self.port)
        self._buffer = bytearray()
        self._line_bytes = 0  # of the last line
        try:
            self.timeout_s = timeout_s if self.modelled else min(timeout_s, NAME_S)
            self._synchronise()
        except BaseException:
            self.close()
            raise
        self.timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # Ctrl-C, say: nobody waits for the rest of the reply
            with suppress(Exception):  # what ended the block is what is told
                self._link.write_timeout = 1
                self._link.write(REST.encode())
        self.close()

    def close(self) -> None:
        """Let go of the port."""
        with suppress(Exception):  # of a port that is gone
            self._link.close()

    @property
    def modelled(self) -> bool:
        """True when the port is no serial device but the virtual board's, whose times come from its cycle model."""
        return re.match(r"\w+://|/dev/pts/|/dev/ttys\d", self.port) is not None

    def _write(self, text: str) -> None:
        try:
            self._link.write(text.encode("ascii"))
            self._link.flush()
        except Exception as error:  # also termios.error, which is no OSError
            raise HostError(
                f"{self.port}: the board disappeared while sending ({_first(error)}); plug it in and run again"
            ) from None

    def _raw_line(self, deadline: float, waiting_for: str) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE:
                raise HostError(
                    f"{self.port}: {len(self._buffer)} bytes without an end of line; check port and speed (115200 8N1)"
                )
            if time.monotonic() > deadline:
                raise HostError(
                    f"{self.port}: no answer to {waiting_for} within {self.timeout_s:g} s; is this project's firmware "
                    f"on "
                    f"it?"
                )
            try:
                self._buffer += self._read()
            except Exception as error:
                raise HostError(
                    f"{self.port}: the board disappeared during {waiting_for} ({_first(error)}); run again"
                ) from None
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        self._line_bytes = len(line) + 1
        return line.rstrip(b"\r")

    def _read(self) -> bytes:
        """What has come, up to some 4 KB; nothing when nothing comes for POLL_S."""
        found = bytes(self._link.read(max(1, min(self._link.in_waiting, READ_BYTES))))
        if found and "://" in self.port:  # pyserial counts 1 byte, however many wait in a socket
            self._link.timeout = 0
            with suppress(serial.SerialException):  # it hung up behind its last words: so says the next read
                found += self._link.read(READ_BYTES)
            self._link.timeout = POLL_S
        return found

    def _line(self, waiting_for: str, timeout_s: float | None = None) -> Line:
        raw = self._raw_line(time.monotonic() + (timeout_s or self.timeout_s), waiting_for)
        try:
            line = parse_line(raw)
        except HostError as error:
            raise HostError(f"{self.port}: {error}") from None
        if isinstance(line, Mark) and line.name in _BOOT_MARKS:
            raise HostError(f"{self.port}: the board reset during {waiting_for}; check its power and run again")
        return line

    def _synchronise(self) -> None:
        """Ends whatever the board was at and drops what it said until a word comes back that nobody sent before: the
        name behind it is the answer to this host."""
        deadline = time.monotonic() + self.timeout_s
        nonce = f"sync{secrets.token_hex(4)}"
        self._write(f"{REST}{nonce}%name%")
        echoed = named = False
        says = ""
        while True:
            try:
                raw = self._raw_line(deadline, "name%")
            except HostError as error:
                raise HostError(f"{error}{says}") from None
            try:
                line = parse_line(raw)
            except HostError:
                continue  # the tail of a line that was under way
            if isinstance(line, Failure) and line.text.endswith(nonce):
                echoed = True
            elif isinstance(line, Failure) and not line.text.startswith("Unknown command"):
                says = f" It says: {line.text[:100]}"  # of a board that could not start, say
            elif isinstance(line, Record) and line.key == "name-dut":
                named = echoed
            elif isinstance(line, Ready) and named:
                return

    def lines(self, command: str, asked: int = 0) -> Iterator[Line]:
        """Sends a command and yields its reply line by line, m-ready left out; HostError on e-[...], and on a reply
        that does not end although no more than `asked` records were asked for."""
        self._write(command + "%")
        shown = f"{command[:40]}%"
        began = time.monotonic()
        end = None if asked else began + self.timeout_s * MOST_TIMEOUTS
        lines_left, bytes_left = MOST_LINES + asked, MOST_BYTES + BYTES_PER_RECORD * asked
        failure: Failure | None = None
        try:
            while not isinstance(line := self._line(shown), Ready):
                lines_left, bytes_left = lines_left - 1, bytes_left - self._line_bytes
                now = time.monotonic()
                if end is None:  # as fast as the first record lets one hope
                    end = began + self.timeout_s * MOST_TIMEOUTS + asked * min(self.timeout_s, SLOWER * (now - began))
                if lines_left < 0 or bytes_left < 0 or now > end:
                    raise HostError(f"{self.port}: the reply to {shown} does not end; reset the board and run again")
                if isinstance(line, Failure):
                    failure = failure or line
                else:
                    yield line
        except HostError:
            if failure is None:  # else what came first is the reason
                raise
        if failure is not None:
            raise HostError(f"{self.port}: the board answers {shown} with: {failure.text[:200]}")

    def _records(self, command: str) -> list[Record]:
        records = []
        for line in self.lines(command):
            if not isinstance(line, Record):
                raise HostError(
                    f"{self.port}: unexpected {str(line)[:80]} in the reply to {command[:40]}%; flash this project's "
                    f"firmware"
                )
            records.append(line)
        return records


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
