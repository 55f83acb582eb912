"""A board behind a serial port: asks it, reads whole replies, plays and listens. Every trouble is one sentence
(HostError)."""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from converter.arrays import Pcm
from converter.spec import DetectorSpec
from host.errors import HostError
from host.link.protocol import (
    AUDIO_SAMPLES,
    QUIET_SAMPLES,
    RING_SAMPLES,
    CacheCounts,
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
    Recorded,
    Run,
    Slice,
    Sound,
    Window,
    read_detector,
    signed,
)
from host.link.wire import MOST_TIMEOUTS, Wire

Timed = TypeVar("Timed", Run, Window)
DB_BYTES_PER_LINE = 31  # as MLPerf Tiny's runner
STOP_S = 2.0  # for a board to stop listening, of which Ctrl-C has just let go


@dataclass(frozen=True)
class Inference:
    """The reply to infer N W."""

    count: int
    elapsed_us: int
    results: tuple[float, ...]


class Board(Wire):
    """An open port with our firmware behind it: what it is, and its commands. Use as a context manager."""

    def __init__(self, port: str | None = None, timeout_s: float = 20.0) -> None:
        super().__init__(port, timeout_s)
        try:
            self.identity = Identity.of(self._records("id"))
        except BaseException:
            self.close()
            raise

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
        return Memory.of(self._one_record("memory"))

    def _one_record(self, key: str) -> Record:
        """The reply to `KEY%`, where it is one record of this key."""
        records = self._records(key)
        if [record.key for record in records] != [key]:
            raise HostError(
                f"{self.port}: {key}%: wants one {key} record, got {len(records)}; flash this project's firmware"
            )
        return records[0]

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

    def count_cache(self) -> None:
        """Instruction cache on, and its hits and misses counted from now on, until cache()."""
        list(self.lines("cache 2"))

    def cache_counts(self) -> CacheCounts:
        """Hits and misses since count_cache; those of the question are among them."""
        return CacheCounts.of(self._one_record("cache"))

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
        return Heard.of(line, len(self.identity.labels), self.identity.output_bytes)

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
        self._start(f"listen {inferences}")
        count = 0
        with self._stopped_at_the_end():
            while not (isinstance(line := self._line("listening"), Record) and line.key == "listened"):
                if isinstance(line, Failure):
                    raise HostError(f"{self.port}: the board stopped listening: {line.text}")
                if isinstance(line, Ready) or self._retuned(line):
                    continue
                count += 1
                if inferences and count > inferences:
                    raise HostError(f"{self.port}: listening does not end; reset the board and run again")
                yield self._heard(line, "listen%")

    def record(self, steps: int = 0) -> Generator[tuple[Pcm, bool], None, None]:
        """What the microphone hears, int16 of one step (m-audio) each, as long as listen(), and whether samples may be
        missing before or in it; HostError for a record that was lost or damaged."""
        self._need_front_end()
        assert self.identity.audio is not None
        samples, again = self.identity.audio.step_samples, "the line lost or damaged something; run again"
        try:
            self._start(f"record {steps}")
        except HostError as error:
            mend = "; flash the firmware of this version" if "Unknown command" in str(error) else ""
            raise HostError(f"{error}{mend}") from None
        count = lost = crc32 = doubtful = 0
        with self._stopped_at_the_end():
            while not (isinstance(line := self._line("recording"), Record) and line.key == "recorded"):
                if not isinstance(line, Record) or line.key != "pcm":
                    raise HostError(f"{self.port}: unexpected {str(line)[:80]} during record%; {again}")
                sound = Sound.of(line, samples)
                if sound.index != count or (steps and count == steps):
                    raise HostError(f"{self.port}: record%: step {sound.index} came for step {count}; {again}")
                count, crc32 = count + 1, zlib.crc32(sound.data, crc32)
                # what was lost is missing behind all that waited in the board at that time
                doubtful = RING_SAMPLES // samples + 1 if sound.lost > lost else max(0, doubtful - 1)
                lost = sound.lost
                yield np.frombuffer(sound.data, "<i2").astype(np.int16), doubtful > 0
            end = Recorded.of(line)
            if (end.steps, end.crc32) != (count, crc32) or (steps and count != steps):
                raise HostError(f"{self.port}: record%: {count} of {end.steps} steps came, or others; {again}")

    def _start(self, command: str) -> None:
        """Sends a command after which records come; a threshold may be set by then."""
        for line in self.lines(command):
            self._retuned(line)

    def _retuned(self, line: Line) -> bool:
        """Takes over the reply to retune()."""
        if not isinstance(line, Record) or line.key != "detector":
            return False
        self.identity = replace(self.identity, detector=read_detector([line], len(self.identity.labels)))
        return True

    @contextmanager
    def _stopped_at_the_end(self) -> Iterator[None]:
        """Whoever ends the block before the board does, ends the board's listening."""
        try:
            yield
        except (GeneratorExit, KeyboardInterrupt) as error:
            patience = self.timeout_s
            if isinstance(error, KeyboardInterrupt):
                self.timeout_s = min(patience, STOP_S)
            with suppress(HostError):  # the caller has what it wanted, and the next host ends it too
                self._stop()
            self.timeout_s = patience
            raise

    def _stop(self) -> None:
        """Reads on to the end of listening and of the reply to stop%, past one to retune() that is still to come."""
        self._write("stop%")
        end = time.monotonic() + self.timeout_s * MOST_TIMEOUTS
        ended = retuned = False
        while time.monotonic() < end:
            line = self._line("stop%")
            if isinstance(line, Ready):
                if ended or not retuned:
                    return
                retuned = False
            elif isinstance(line, Record):
                retuned = self._retuned(line) or retuned
                ended = ended or line.key in ("listened", "recorded")


@contextmanager
def connect(port: str | None, wavs: Sequence[Path] = (), gap_seconds: float = 0.0) -> Iterator[Board]:
    """The board at a port; for a firmware.elf, or the folder that `host build` made one in, a virtual board that runs
    it, with these recordings in its microphone."""
    if port is not None and Path(port).is_dir():
        image = Path(port) / "build" / "emulator" / "firmware.elf"
        if not image.is_file():
            raise HostError(f"{port}: holds no image for a virtual board; run `python -m host build {port}` first")
        port = str(image)
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
