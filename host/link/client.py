"""A board behind a serial port: opens it, asks, reads whole replies. Every trouble is one sentence (HostError)."""

from __future__ import annotations

import base64
import re
import secrets
import sys
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import serial
from serial.tools import list_ports

from converter.arrays import Pcm
from converter.spec import DetectorSpec
from host.errors import HostError
from host.link.protocol import (
    AUDIO_SAMPLES,
    MAX_LINE,
    QUIET_SAMPLES,
    Failure,
    Features,
    Heard,
    Identity,
    LayerRun,
    Line,
    Mark,
    Memory,
    Ready,
    Record,
    Run,
    Slice,
    Window,
    parse_line,
    read_detector,
    signed,
)

Timed = TypeVar("Timed", Run, Window)
BAUD = 115200  # never 1200: opening the Nano's port at that speed starts its bootloader
USB_VENDOR = 0x2341
USB_SKETCH = (0x805A, 0x015A, 0x025A)  # Arduino's boards.txt, nano33ble
USB_BOOTLOADER = (0x005A,)
DB_BYTES_PER_LINE = 31  # as MLPerf Tiny's runner
# A reply ends within these, and what the command asks for on top: lines, bytes, and time-outs of a line.
MOST_LINES, MOST_BYTES, MOST_TIMEOUTS = 4096, 1_000_000, 10
BYTES_PER_RECORD = 256
SLOWER = 4  # than the first record, that command and all, each further one may be
POLL_S, READ_BYTES = 0.1, 4096
STOP_S = 2.0  # for a board to stop listening, of which Ctrl-C has just let go
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
        return f"{port}: no such port; `python -m host ports` lists what is plugged in"
    if "refused" in text:
        return (
            f"{port}: nobody listens there; start the virtual board first (python -m host emulate ELF --port tcp:PORT)"
        )
    return f"{port}: cannot be opened ({text.splitlines()[0] if text else type(error).__name__})"


@dataclass(frozen=True)
class Inference:
    """The reply to infer N W."""

    count: int
    elapsed_us: int
    results: tuple[float, ...]


class Board:
    """An open port with our firmware behind it. Use as a context manager."""

    def __init__(self, port: str | None = None, timeout_s: float = 20.0) -> None:
        self.port = port or find_port()
        self.timeout_s = timeout_s
        self._link = _open(self.port)
        self._buffer = bytearray()
        self._line_bytes = 0  # of the last line
        try:
            self._synchronise()
            self.identity = Identity.of(self._records("id"))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Board:
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

    # -- lines

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

    # -- commands

    def load_input(self, data: bytes) -> None:
        """The network's input, by `db` as MLPerf Tiny's runner sends it."""
        expected = self.identity.input_bytes
        if len(data) != expected:
            raise HostError(f"input: the network on the board wants {expected} bytes, got {len(data)}")
        list(self.lines(f"db load {len(data)}"))
        done = False
        for at in range(0, len(data), DB_BYTES_PER_LINE):
            reply = list(self.lines(f"db {data[at : at + DB_BYTES_PER_LINE].hex()}"))
            done = Mark("load-done") in reply
        self._check_loaded(done)

    def load_pcm(self, pcm: Pcm) -> None:
        """A clip into the board, with a CRC over the whole; its features become the network's input."""
        self._need_front_end()
        data = _little_endian(pcm)
        list(self.lines(f"pcm load {len(pcm)} {zlib.crc32(data):08x}"))
        done = False
        for at in range(0, len(data), 2 * AUDIO_SAMPLES):
            reply = list(self.lines(f"pcm {base64.b64encode(data[at : at + 2 * AUDIO_SAMPLES]).decode()}"))
            done = Mark("load-done") in reply
        self._check_loaded(done)

    def _check_loaded(self, done: bool) -> None:
        if not done:
            raise HostError(f"{self.port}: all was sent but the board waits for more; a line was lost, run again")

    def _need_front_end(self) -> None:
        if self.identity.audio is None:
            raise HostError(
                f"{self.port}: the model on the board ({self.identity.model_name}) has no front end; use `infer`"
            )

    def infer(self, count: int = 1, warmup: int = 0) -> Inference:
        """`count` timed inferences of the input that is loaded, after `warmup` untimed ones."""
        laps: list[int] = []
        results: tuple[float, ...] = ()
        for line in self.lines(f"infer {count} {warmup}"):
            if isinstance(line, Mark) and line.name == "lap-us" and line.value is not None:
                laps.append(line.value)
            elif isinstance(line, Record) and line.key == "results":
                try:
                    results = tuple(float(field) for field in line.fields)
                except ValueError:
                    raise HostError(f"{self.port}: m-results holds no numbers: {str(line.fields)[:80]}") from None
        if len(laps) != 2 or len(results) != self.identity.output_bytes:
            raise HostError(
                f"{self.port}: infer%: {len(laps)} times and {len(results)} results came, wanted 2 and "
                f"{self.identity.output_bytes}; run again"
            )
        return Inference(count, laps[1] - laps[0], results)

    def layers(self) -> tuple[list[LayerRun], tuple[int, ...]]:
        """One traced inference of the loaded input: its layers and the int8 output."""
        records = self._records("layers")
        output = [record for record in records if record.key == "output"]
        layers = [LayerRun.of(record) for record in records if record.key == "layer"]
        if len(output) != 1 or len(output[0].fields) != 1 or len(output) + len(layers) != len(records):
            raise HostError(f"{self.port}: layers%: wants layer records and one output; flash this project's firmware")
        try:
            scores = signed(bytes.fromhex(output[0].fields[0]))
        except ValueError:
            raise HostError(f"{self.port}: layers%: the output is not hex: {output[0].fields[0][:40]}") from None
        return layers, scores

    def features(self) -> Features:
        """Features of the loaded clip."""
        records = self._records("features")
        if not records or records[-1].key != "features" or any(record.key != "slice" for record in records[:-1]):
            raise HostError(
                f"{self.port}: features%: wants slices and one features record; flash this project's firmware"
            )
        found = Features.of(records[-1], [Slice.of(record) for record in records[:-1]])
        if zlib.crc32(found.data) != found.crc32:
            raise HostError(
                f"{self.port}: features%: the CRC differs from the slices received; a line was damaged, run again"
            )
        return found

    def memory(self) -> Memory:
        """Bytes of flash, static RAM, arena and stack."""
        records = self._records("memory")
        if [record.key for record in records] != ["memory"]:
            raise HostError(
                f"{self.port}: memory%: wants one memory record, got {len(records)}; flash this project's firmware"
            )
        return Memory.of(records[0])

    def detector(self) -> DetectorSpec:
        """The detector in force, with the board's table of false accepts per hour."""
        return self._detector("detector")

    def set_thresholds(self, thresholds: Sequence[int]) -> DetectorSpec:
        """One threshold per word, until the board's power-up; the detector in force then, without the table."""
        return self._detector(f"detector {' '.join(map(str, thresholds))}", thresholds)

    def set_rate(self, false_accepts_per_hour: float) -> DetectorSpec:
        """The thresholds of a rate of the board's table, as set_thresholds; HostError when it is not in the table."""
        table = self.detector()
        milli = round(1000 * false_accepts_per_hour)
        if milli not in table.milli_rates:
            known = ", ".join(f"{rate:g}" for rate, _ in table.rates)
            raise HostError(
                f"{self.port}: the board's table has {known or 'no'} false accepts per hour, not "
                f"{false_accepts_per_hour:g}; " + ("take one of them" if known else "set thresholds instead")
            )
        return self._detector(f"detector rate {milli}", table.rates[table.milli_rates.index(milli)][1])

    def _detector(self, command: str, wanted: Sequence[int] | None = None) -> DetectorSpec:
        """Keeps what the board answers for `listen` and for comparing."""
        self._need_front_end()
        found = read_detector(self._records(command), len(self.identity.labels))
        if wanted is not None and found.thresholds != tuple(wanted):
            raise HostError(
                f"{self.port}: {tuple(wanted)} was sent to the detector, it has {found.thresholds}; a line was "
                f"damaged, run again"
            )
        self.identity = replace(self.identity, detector=replace(found, rates=()))
        return found

    def retune(self, thresholds: Sequence[int]) -> None:
        """Sends one threshold per word while the records of listen() are being read, also by another thread; the
        identity has them from the first record on that the board judged by them."""
        self._write(f"detector {' '.join(map(str, thresholds))}%")

    def cache(self, on: bool) -> None:
        """Instruction cache of the flash on (as after power-up) or off."""
        list(self.lines(f"cache {int(on)}"))

    def runs(self, count: int, progress: Callable[[Run], None] | None = None) -> list[Run]:
        """Stage times of `count` runs, each its own record."""
        return self._numbered("run", count, Run.of, progress)

    def windows(self, count: int) -> list[Window]:
        """Time of a whole window's features, `count` times."""
        return self._numbered("window", count, Window.of, None)

    def _numbered(
        self, key: str, count: int, read: Callable[[Record], Timed], progress: Callable[[Timed], None] | None
    ) -> list[Timed]:
        """The records of `KEYs COUNT`, every one of them."""
        found: list[Timed] = []
        for line in self.lines(f"{key}s {count}", count):
            if not isinstance(line, Record) or line.key != key:
                raise HostError(
                    f"{self.port}: unexpected {str(line)[:80]} in the reply to {key}s%; flash this project's firmware"
                )
            found.append(read(line))
            if found[-1].index != len(found) - 1:
                raise HostError(f"{self.port}: {key}s%: record {len(found) - 1} was lost; run again")
            if progress:
                progress(found[-1])
        if len(found) != count:
            raise HostError(f"{self.port}: {key}s%: {len(found)} records came, {count} were asked for; run again")
        return found

    def _heard(self, line: Line, during: str) -> Heard:
        if not isinstance(line, Record) or line.key != "heard":
            raise HostError(f"{self.port}: unexpected {str(line)[:80]} during {during}; flash this project's firmware")
        return Heard.of(line, len(self.identity.labels))

    def stream(self, pcm: Pcm) -> Iterator[Heard]:
        """Plays audio over the line into the board from a fresh state; one record per inference."""
        self._need_front_end()
        list(self.lines("stream"))
        for command in _audio_commands(pcm):
            for line in list(self.lines(command)):
                yield self._heard(line, "audio%")

    def listen(self, inferences: int = 0) -> Generator[Heard, None, None]:
        """The microphone, one record per inference; 0 goes on until the caller stops. HostError without a
        microphone."""
        self._need_front_end()
        list(self.lines(f"listen {inferences}"))
        count = 0
        try:
            while not (isinstance(line := self._line("listening"), Record) and line.key == "listened"):
                if isinstance(line, Failure):
                    raise HostError(f"{self.port}: the board stopped listening: {line.text}")
                if isinstance(line, Ready):  # behind the reply to retune()
                    continue
                if isinstance(line, Record) and line.key == "detector":
                    found = read_detector([line], len(self.identity.labels))
                    self.identity = replace(self.identity, detector=found)
                    continue
                count += 1
                if inferences and count > inferences:
                    raise HostError(f"{self.port}: listening does not end; reset the board and run again")
                yield self._heard(line, "listen%")
        except (GeneratorExit, KeyboardInterrupt) as error:
            patience = self.timeout_s
            if isinstance(error, KeyboardInterrupt):
                self.timeout_s = min(patience, STOP_S)
            with suppress(HostError):  # the caller has what it wanted, and the next host ends it too
                for _ in self.lines("stop"):  # and what was heard meanwhile
                    pass
            self.timeout_s = patience
            raise


@contextmanager
def connect(port: str | None, wavs: Sequence[Path] = (), gap_seconds: float = 0.0) -> Iterator[Board]:
    """The board at a port; for a firmware.elf a virtual board that runs it, with these recordings in its microphone."""
    if port is None or not port.endswith(".elf"):
        with Board(port) as board:
            yield board
        return
    from host.emulator.session.launcher import launch

    with launch(port, wavs, gap=gap_seconds) as address, Board(address) as board:
        yield board


def _audio_commands(pcm: Pcm) -> Iterator[str]:
    """`audio` lines, and `quiet` for digital silence, which is most of the traffic of a word with a pause behind it."""
    quiet = 0
    for at in range(0, len(pcm), AUDIO_SAMPLES):
        part = pcm[at : at + AUDIO_SAMPLES]
        if quiet and (part.any() or quiet + len(part) > QUIET_SAMPLES):
            yield f"quiet {quiet}"
            quiet = 0
        if part.any():
            yield f"audio {base64.b64encode(_little_endian(part)).decode()}"
        else:
            quiet += len(part)
    if quiet:
        yield f"quiet {quiet}"


def _little_endian(pcm: Pcm) -> bytes:
    return pcm.astype("<i2").tobytes()


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
