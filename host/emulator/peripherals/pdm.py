"""PDM with EasyDMA: 16-bit samples of a recording go into the firmware's buffers at the rate its clock settings
give."""

from __future__ import annotations

import hashlib
import math
from typing import Any, BinaryIO, ClassVar

from converter.checked import Flag, Row, Rule, Whole
from host.emulator.peripherals.base import RW, WORD, Bus, Peripheral, Registers
from host.emulator.schedule import CLOCK_HZ

_RATIOS = {0: 64, 1: 80}
_EXACT = 32_000_000  # the clock that the PDM clock is divided from; times are exact in so many parts of a cycle
STUCK = -32768  # what a decimator makes of a data line that never moves: a board without a microphone


class PDM(Registers):
    """The microphone interface's registers."""

    TASKS_START = 0x000
    TASKS_STOP = 0x004
    EVENTS_STARTED = 0x100
    EVENTS_STOPPED = 0x104
    EVENTS_END = 0x108
    ENABLE = 0x500
    PDMCLKCTRL = 0x504, RW, 0x08400000
    MODE = 0x508
    GAINL = 0x518, RW, 0x28
    GAINR = 0x51C, RW, 0x28
    RATIO = 0x520
    PSEL_CLK = 0x540, RW, 0xFFFFFFFF
    PSEL_DIN = 0x544, RW, 0xFFFFFFFF
    SAMPLE_PTR = 0x560
    SAMPLE_MAXCNT = 0x564


class LiveSound:
    """Sound that comes while the board runs, from a pipe: packets of a count, 16 bits, and so many 16-bit samples,
    little-endian; a count of 0 ends a recording, and silence follows until the microphone is started again.

    Reading waits: the board's time stands still until the sound is there, so that what it hears is what was sent.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe, self._waiting = pipe, bytearray()
        self.ended = True
        self.closed = False  # nothing will come any more

    def begin(self) -> None:
        """The next recording; what is left of the one before is dropped."""
        while not self.ended:
            self._packet()
        self._waiting.clear()
        self.ended = self.closed

    def take(self, size: int) -> bytes:
        """So many bytes, or those before the recording's end."""
        while len(self._waiting) < size and not self.ended:
            self._packet()
        part = bytes(self._waiting[:size])
        del self._waiting[:size]
        return part

    def _packet(self) -> None:
        count = self._pipe.read(2)
        size = 2 * int.from_bytes(count, "little")
        data = self._pipe.read(size) if size else b""
        self.ended = not data
        self.closed = len(count) < 2 or len(data) < size
        self._waiting += data


class Pdm(Peripheral):
    """`pcm` is None on a board without microphone. The recording moves on only while the PDM runs; after its end there
    is silence.

    Once a host has spoken to the board, every START plays the recording from its beginning: what the firmware heard by
    itself before, from power-up on, is nothing that the host missed. With no host a stopped PDM goes on where it was.
    Samples are the firmware's own: gain registers are kept but not applied, so what a program reads is the recording,
    bit for bit.
    """

    layout = PDM
    slots = (PDM.EVENTS_END,)
    SAVED: ClassVar[dict[str, Rule]] = {
        **Peripheral.SAVED,
        **{name: Whole() for name in ("position", "delivered", "beginnings", "delivered_at")},
        **{name: Flag() for name in ("host_has_spoken", "running")},
        "_early": Whole(0, _EXACT - 1),
        "_buffer": Row((WORD, Whole(0, 0x7FFF))),
    }

    def __init__(self, bus: Bus, number: int, pcm: Any) -> None:
        super().__init__(bus, number)
        self.live = pcm if isinstance(pcm, LiveSound) else None
        self._bytes = b"" if self.live else None if pcm is None else pcm.astype("<i2").tobytes()
        self.position = 0  # samples delivered of the recording and the silence after it
        self.delivered = 0  # samples in all
        self.beginnings = 0  # how often the recording has begun anew
        self.host_has_spoken = False
        self.delivered_at = 0  # when the last buffer was full
        self.running = False
        self._early = 0  # how much before its cycle the buffer is full, in 1 / _EXACT of one, so that nothing drifts
        self._buffer = (0, 0)

    @property
    def recording_id(self) -> str:
        """Tells recordings apart."""
        return "none" if self._bytes is None else hashlib.sha256(self._bytes).hexdigest()

    def go_on_with(self, pcm: Any) -> None:
        """Another recording's first sample follows what is heard by now; its positions count anew."""
        self._bytes, self.position = pcm.astype("<i2").tobytes(), 0

    def reset(self) -> None:
        """As after a system reset."""
        super().reset()
        self._halt()

    @property
    def samples(self) -> int:
        """Length of the recording."""
        return 0 if self._bytes is None else len(self._bytes) // 2

    @property
    def exhausted(self) -> bool:
        """Whether the recording is over."""
        if self.live:
            return self.live.ended
        return self.position >= self.samples

    def seconds_at(self, sample: int) -> float:
        """Board time at which a sample of the last buffer was in front of the microphone."""
        clock, divider = self.sample_clock
        return self.delivered_at / CLOCK_HZ - (self.position - sample) * divider / clock

    def level(self) -> float:
        """Loudest sample of the last 20 ms delivered, in dB of full scale; -96 for none."""
        part = memoryview(self._bytes or b"")[2 * max(0, self.position - 320) : 2 * self.position].cast("h")
        peak = max((abs(value) for value in part), default=0)
        return 20 * math.log10(max(peak, 0.5) / 32768)

    @property
    def sample_clock(self) -> tuple[int, int]:
        """Samples per second as a fraction: PDM clock, ratio. 32 MHz over the whole part of 2^32 / PDMCLKCTRL; ratio 64
        or 80."""
        divider = (1 << 32) // max(1, self.stored(PDM.PDMCLKCTRL))
        return _EXACT, divider * _RATIOS.get(self.stored(PDM.RATIO) & 1, 64)

    def task(self, offset: int) -> None:
        """Start or stop."""
        if offset == PDM.TASKS_START and not self.running and self.stored(PDM.ENABLE) & 1:
            self.running = True
            if self.live and self.host_has_spoken:
                self.live.begin()
            if self.host_has_spoken and self.position:
                self.position = 0
                self.beginnings += 1
            self._begin_buffer(self.bus.schedule.now() * _EXACT)
        elif offset == PDM.TASKS_STOP and self.running:
            self._halt()
            self.event(PDM.EVENTS_STOPPED)

    def changed(self, offset: int, value: int) -> None:
        """Disabling stops it, without the event."""
        if offset == PDM.ENABLE and not value & 1:
            self._halt()

    def _halt(self) -> None:
        self.running = False
        self.forget(PDM.EVENTS_END)

    def _begin_buffer(self, start: int) -> None:
        """Latch the pointer, raise STARTED so that the firmware gives the next one, and fill this one by its end.

        start: in 1 / _EXACT of a cycle.
        """
        self._buffer = self.stored(PDM.SAMPLE_PTR), self.stored(PDM.SAMPLE_MAXCNT) & 0x7FFF
        clock, divider = self.sample_clock
        # Without a buffer (the Arduino library starts like that) the peripheral looks again one sample later.
        end = start + max(1, self._buffer[1]) * CLOCK_HZ * divider * (_EXACT // clock)
        when = -(-end // _EXACT)
        self._early = when * _EXACT - end
        self.wait(PDM.EVENTS_END, when)
        self.event(PDM.EVENTS_STARTED)

    def due(self, slot: int, when: int) -> None:
        """A buffer is full."""
        (address, count), end = self._buffer, when * _EXACT - self._early
        if count:
            self.bus.dma_write(address, self._take(count), self.name)
        self.event(slot)
        if self.running and slot not in self.waiting:  # else PPI has started it anew
            self._begin_buffer(end)

    def _take(self, count: int) -> bytes:
        if self._bytes is None:
            return STUCK.to_bytes(2, "little", signed=True) * count
        first = 2 * self.position
        part = self.live.take(2 * count) if self.live else self._bytes[first : first + 2 * count]
        self.position += count
        self.delivered += count
        self.delivered_at = self.bus.schedule.now()
        return part + bytes(2 * count - len(part))
