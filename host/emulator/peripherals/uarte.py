"""UARTE0/1 with EasyDMA. Bytes take their time at the baud rate in board cycles, never in host time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from host.emulator.peripherals.base import Chip, Peripheral
from host.emulator.schedule import CLOCK_HZ, Event

_FIFO_BYTES = 6
_STARTRX, _STOPRX, _STARTTX, _STOPTX, _FLUSHRX = 0x000, 0x004, 0x008, 0x00C, 0x02C
_RXDRDY, _ENDRX, _TXDRDY, _ENDTX, _ERROR, _RXTO, _RXSTARTED, _TXSTARTED, _TXSTOPPED = (
    0x108,
    0x110,
    0x11C,
    0x120,
    0x124,
    0x144,
    0x14C,
    0x150,
    0x158,
)
_OVERRUN = 1
_PSEL_TXD, _DISCONNECTED = 0x50C, 1 << 31


class Uarte(Peripheral):
    """`host_to_board` is filled by the host; what the board sends is appended to `board_to_host`."""

    tasks: Mapping[int, str] = {
        _STARTRX: "STARTRX",
        _STOPRX: "STOPRX",
        _STARTTX: "STARTTX",
        _STOPTX: "STOPTX",
        _FLUSHRX: "FLUSHRX",
    }
    events: Mapping[int, str] = {
        0x100: "CTS",
        0x104: "NCTS",
        _RXDRDY: "RXDRDY",
        _ENDRX: "ENDRX",
        _TXDRDY: "TXDRDY",
        _ENDTX: "ENDTX",
        _ERROR: "ERROR",
        _RXTO: "RXTO",
        _RXSTARTED: "RXSTARTED",
        _TXSTARTED: "TXSTARTED",
        _TXSTOPPED: "TXSTOPPED",
    }
    shorts: Mapping[int, tuple[int, int]] = {5: (_ENDRX, _STARTRX), 6: (_ENDRX, _STOPRX)}
    names: Mapping[int, str] = {
        0x480: "ERRORSRC",
        0x500: "ENABLE",
        0x508: "PSEL.RTS",
        0x50C: "PSEL.TXD",
        0x510: "PSEL.CTS",
        0x514: "PSEL.RXD",
        0x518: "RXD",
        0x51C: "TXD",
        0x524: "BAUDRATE",
        0x534: "RXD.PTR",
        0x538: "RXD.MAXCNT",
        0x53C: "RXD.AMOUNT",
        0x544: "TXD.PTR",
        0x548: "TXD.MAXCNT",
        0x54C: "TXD.AMOUNT",
        0x56C: "CONFIG",
    }

    def __init__(self, chip: Chip, base: int, irq: int, name: str) -> None:
        super().__init__(chip, base, irq, name)
        self.host_to_board: deque[int] = deque()
        self.board_to_host = bytearray()
        self.overruns = 0
        self.ever_received = False
        self._fifo: deque[int] = deque()
        self._receiving = False  # the receiver listens (STARTRX .. STOPRX)
        self._buffer = (0, 0)  # DMA buffer in force: address, bytes
        self._filled = 0
        self._dma = False
        self._arrival: Event | None = None
        self._free_at = 0  # when the line has carried the last byte to the board
        self._sending: Event | None = None
        self._sending_from = 0

    def reset(self) -> None:
        super().reset()
        for event in (self._arrival, self._sending):
            if event:
                event.cancel()
        self._arrival = self._sending = None
        self._receiving = self._dma = False
        self._fifo.clear()

    @property
    def byte_cycles(self) -> int:
        """Cycles of one byte: start bit, 8 data bits, stop bit; BAUDRATE is 2^32 / 16 MHz per baud."""
        baud = max(1, round(self.registers.get(0x524, 0x01D7E000) * 16_000_000 / (1 << 32) / 100) * 100)
        return 10 * CLOCK_HZ // baud

    @property
    def is_sending(self) -> bool:
        return self._sending is not None

    def changed(self, offset: int, value: int) -> None:
        if offset == 0x480:
            self.registers[0x480] = 0
        elif offset == 0x51C:
            self.chip.unmodelled(f"{self.name} TXD without DMA (write)")

    def task(self, offset: int) -> None:
        if offset == _STARTTX:
            self._start_sending()
        elif offset == _STOPTX:
            self._stop_sending()
        elif offset == _STARTRX:
            self._buffer = self.registers.get(0x534, 0), self.registers.get(0x538, 0) & 0xFFFF
            self._filled, self._dma = 0, True
            self._receiving = self.ever_received = True
            self.event(_RXSTARTED)
            self._drain_fifo()
            self.wake()
        elif offset == _STOPRX:
            if self._dma:
                self._end_receive()
            self._receiving = False
            self.event(_RXTO)
        elif offset == _FLUSHRX:
            self._buffer = self.registers.get(0x534, 0), self.registers.get(0x538, 0) & 0xFFFF
            self._filled, self._dma = 0, True
            self._drain_fifo()
            if self._dma:
                self._end_receive()

    def _start_sending(self) -> None:
        address, count = self.registers.get(0x544, 0), self.registers.get(0x548, 0) & 0xFFFF
        data = self.chip.dma_read(address, count, self.name)
        if (
            not self.registers.get(_PSEL_TXD, _DISCONNECTED) & _DISCONNECTED
        ):  # mbed sends a byte into the void to set TXDRDY
            self.board_to_host += data
        self.event(_TXSTARTED)
        self._sending_from = self.chip.schedule.now()
        self._sending = self.chip.schedule.after(count * self.byte_cycles, lambda: self._sent(count))

    def _sent(self, count: int) -> None:
        self._sending = None
        self.registers[0x54C] = count
        if count:
            self.event(_TXDRDY)
        self.event(_ENDTX)

    def _stop_sending(self) -> None:
        if self._sending:  # the bytes not yet on the line never leave
            self._sending.cancel()
            self._sending = None
            count = self.registers.get(0x548, 0) & 0xFFFF
            done = min(count, -(-(self.chip.schedule.now() - self._sending_from) // self.byte_cycles))
            if done < count and not self.registers.get(_PSEL_TXD, _DISCONNECTED) & _DISCONNECTED:
                del self.board_to_host[max(0, len(self.board_to_host) - (count - done)) :]
            self.registers[0x54C] = done
            self.event(_ENDTX)
        self.event(_TXSTOPPED)

    def wake(self) -> None:
        """The host has sent something: let it arrive at the pace of the line. Bytes wait until the receiver was started
        once."""
        if self.host_to_board and self._arrival is None and self.ever_received:
            self._free_at = max(self._free_at, self.chip.schedule.now()) + self.byte_cycles
            self._arrival = self.chip.schedule.at(self._free_at, self._arrive)

    def _arrive(self) -> None:
        self._arrival = None
        value = self.host_to_board.popleft()
        if not self._receiving:
            pass  # nobody listens: the byte is gone, as on the wire
        elif len(self._fifo) >= _FIFO_BYTES:
            self.overruns += 1
            self.registers[0x480] = self.registers.get(0x480, 0) | _OVERRUN
            self.event(_ERROR)
        else:
            self._fifo.append(value)
            self.registers[0x518] = value
            self._drain_fifo()
            self.event(_RXDRDY)
        self.wake()

    def _drain_fifo(self) -> None:
        while self._fifo and self._dma:
            address, count = self._buffer
            if self._filled < count:
                self.chip.dma_write(address + self._filled, bytes([self._fifo.popleft()]), self.name)
                self._filled += 1
            if self._filled >= count:
                self._end_receive()

    def _end_receive(self) -> None:
        self._dma = False
        self.registers[0x53C] = self._filled
        self.event(_ENDRX)
