"""UARTE0/1 with EasyDMA. Bytes take their time at the baud rate in board cycles, never in host time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import ClassVar

from converter.checked import Flag, Items, Row, Rule, Whole
from host.emulator.errors import BoardError
from host.emulator.peripherals.base import CYCLES, RO, RW, WO, WORD, Bus, Peripheral, Registers
from host.emulator.schedule import CLOCK_HZ

_FIFO_BYTES = 6
_OVERRUN = 1  # a bit of ERRORSRC
_DISCONNECTED = 0xFFFFFFFF


class UARTE(Registers):
    """The registers; RXD and TXD alone are those of the UART without EasyDMA."""

    TASKS_STARTRX = 0x000
    TASKS_STOPRX = 0x004
    TASKS_STARTTX = 0x008
    TASKS_STOPTX = 0x00C
    TASKS_FLUSHRX = 0x02C
    EVENTS_CTS = 0x100
    EVENTS_NCTS = 0x104
    EVENTS_RXDRDY = 0x108
    EVENTS_ENDRX = 0x110
    EVENTS_TXDRDY = 0x11C
    EVENTS_ENDTX = 0x120
    EVENTS_ERROR = 0x124
    EVENTS_RXTO = 0x144
    EVENTS_RXSTARTED = 0x14C
    EVENTS_TXSTARTED = 0x150
    EVENTS_TXSTOPPED = 0x158
    ERRORSRC = 0x480
    ENABLE = 0x500
    PSEL_RTS = 0x508, RW, _DISCONNECTED
    PSEL_TXD = 0x50C, RW, _DISCONNECTED
    PSEL_CTS = 0x510, RW, _DISCONNECTED
    PSEL_RXD = 0x514, RW, _DISCONNECTED
    RXD = 0x518, RO
    TXD = 0x51C, WO
    BAUDRATE = 0x524, RW, 0x04000000
    RXD_PTR = 0x534
    RXD_MAXCNT = 0x538
    RXD_AMOUNT = 0x53C, RO
    TXD_PTR = 0x544
    TXD_MAXCNT = 0x548
    TXD_AMOUNT = 0x54C, RO
    CONFIG = 0x56C


class Uarte(Peripheral):
    """`host_to_board` is filled by the host; what the board sends is appended to `board_to_host`.

    line_baud: the speed of the line whatever the program sets, as the baud rate means nothing on a board's USB; 0: the
    program's.
    """

    layout = UARTE
    slots = (UARTE.EVENTS_RXDRDY, UARTE.EVENTS_ENDTX)  # a byte arrives; all is sent
    SAVED: ClassVar[dict[str, Rule]] = {
        **Peripheral.SAVED,
        **{name: Items(Whole(0, 255)) for name in ("host_to_board", "board_to_host", "_fifo")},
        **{name: Flag() for name in ("ever_received", "_receiving", "_dma")},
        **{name: Whole() for name in ("overruns", "_filled", "_sending_count")},
        "_buffer": Row((WORD, Whole(0, 0xFFFF))),
        "_free_at": CYCLES,
        "_sending_from": CYCLES,
    }
    shorts: Mapping[int, tuple[int, int]] = {
        5: (UARTE.EVENTS_ENDRX, UARTE.TASKS_STARTRX),
        6: (UARTE.EVENTS_ENDRX, UARTE.TASKS_STOPRX),
    }

    def __init__(self, bus: Bus, number: int) -> None:
        super().__init__(bus, number)
        self.host_to_board: deque[int] = deque()
        self.board_to_host = bytearray()
        self.overruns = self.line_baud = 0
        self.ever_received = False
        self._fifo: deque[int] = deque()
        self._receiving = False  # the receiver listens (STARTRX .. STOPRX)
        self._buffer = (0, 0)  # DMA buffer in force: address, bytes
        self._filled = 0
        self._dma = False
        self._free_at = 0  # when the line has carried the last byte to the board
        self._sending_from = self._sending_count = 0

    def reset(self) -> None:
        """As after a system reset; what the host has sent waits."""
        super().reset()
        self._receiving = self._dma = False
        self._fifo.clear()

    @property
    def byte_cycles(self) -> int:
        """Cycles of one byte: start bit, 8 data bits, stop bit; BAUDRATE is 2^32 / 16 MHz per baud."""
        baud = max(1, round(self.stored(UARTE.BAUDRATE) * 16_000_000 / (1 << 32) / 100) * 100)
        return 10 * CLOCK_HZ // (self.line_baud or baud)

    @property
    def _connected(self) -> bool:
        return not self.stored(UARTE.PSEL_TXD) >> 31

    @property
    def is_sending(self) -> bool:
        """Whether bytes are on the line to the host."""
        return UARTE.EVENTS_ENDTX in self.waiting

    def changed(self, offset: int, value: int) -> None:
        """ERRORSRC is cleared by a write."""
        if offset == UARTE.ERRORSRC:
            self.values[offset] = 0
        elif offset == UARTE.TXD:
            self.bus.unmodelled(f"{self.name} TXD without DMA (write)")

    def task(self, offset: int) -> None:
        """Start and stop both directions."""
        if offset == UARTE.TASKS_STARTTX:
            self._start_sending()
        elif offset == UARTE.TASKS_STOPTX:
            self._stop_sending()
        elif offset == UARTE.TASKS_STARTRX:
            self._buffer = self.stored(UARTE.RXD_PTR), self.stored(UARTE.RXD_MAXCNT) & 0xFFFF
            self._filled, self._dma = 0, True
            self._receiving = self.ever_received = True
            self.event(UARTE.EVENTS_RXSTARTED)
            self._drain_fifo()
            self.wake()
        elif offset == UARTE.TASKS_STOPRX:
            if self._dma:
                self._end_receive()
            self._receiving = False
            self.event(UARTE.EVENTS_RXTO)
        elif offset == UARTE.TASKS_FLUSHRX:
            self._buffer = self.stored(UARTE.RXD_PTR), self.stored(UARTE.RXD_MAXCNT) & 0xFFFF
            self._filled, self._dma = 0, True
            self._drain_fifo()
            if self._dma:
                self._end_receive()

    def _start_sending(self) -> None:
        """A transfer of no bytes takes a byte's time, so that one that starts itself again does not stop the clock; a
        running one ends where it is."""
        self._cut_short()
        address, count = self.stored(UARTE.TXD_PTR), self.stored(UARTE.TXD_MAXCNT) & 0xFFFF
        data = self.bus.dma_read(address, count, self.name)
        if self._connected:  # mbed sends a byte into the void to set TXDRDY
            self.board_to_host += data
        self._sending_from, self._sending_count = self.bus.schedule.now(), count
        self.delay(UARTE.EVENTS_ENDTX, max(1, count) * self.byte_cycles)
        self.event(UARTE.EVENTS_TXSTARTED)

    def due(self, slot: int, when: int) -> None:
        """A byte has arrived, or all is sent."""
        if slot == UARTE.EVENTS_RXDRDY:
            self._arrive()
            return
        self.values[UARTE.TXD_AMOUNT] = self._sending_count
        if self._sending_count:
            self.event(UARTE.EVENTS_TXDRDY)
        self.event(UARTE.EVENTS_ENDTX)

    def _stop_sending(self) -> None:
        if self._cut_short():
            self.event(UARTE.EVENTS_ENDTX)
        self.event(UARTE.EVENTS_TXSTOPPED)

    def _cut_short(self) -> bool:
        """End a running transfer: the bytes not yet on the line never leave. Whether there was one."""
        if not self.is_sending:
            return False
        self.forget(UARTE.EVENTS_ENDTX)
        count = self._sending_count
        done = min(count, -(-(self.bus.schedule.now() - self._sending_from) // self.byte_cycles))
        if done < count and self._connected:
            del self.board_to_host[max(0, len(self.board_to_host) - (count - done)) :]
        self.values[UARTE.TXD_AMOUNT] = done
        return True

    def wait_again(self, slot: int, when: int, order: int) -> None:
        """A byte arrives only where one is on its way."""
        if slot == UARTE.EVENTS_RXDRDY and not self.host_to_board:
            raise BoardError(f"{self.name} waits for a byte that nobody has sent")
        super().wait_again(slot, when, order)

    def wake(self) -> None:
        """The host has sent something: let it arrive at the pace of the line. Bytes wait until the receiver was started
        once."""
        if self.host_to_board and UARTE.EVENTS_RXDRDY not in self.waiting and self.ever_received:
            self._free_at = max(self._free_at, self.bus.schedule.now()) + self.byte_cycles
            self.wait(UARTE.EVENTS_RXDRDY, self._free_at)

    def _arrive(self) -> None:
        value = self.host_to_board.popleft()
        if not self._receiving:
            pass  # nobody listens: the byte is gone, as on the wire
        elif len(self._fifo) >= _FIFO_BYTES:
            self.overruns += 1
            self.values[UARTE.ERRORSRC] = self.stored(UARTE.ERRORSRC) | _OVERRUN
            self.event(UARTE.EVENTS_ERROR)
        else:
            self._fifo.append(value)
            self.values[UARTE.RXD] = value
            self._drain_fifo()
            self.event(UARTE.EVENTS_RXDRDY)
        self.wake()

    def _drain_fifo(self) -> None:
        while self._fifo and self._dma:
            address, count = self._buffer
            if self._filled < count:
                self.bus.dma_write(address + self._filled, bytes([self._fifo.popleft()]), self.name)
                self._filled += 1
            if self._filled >= count:
                self._end_receive()

    def _end_receive(self) -> None:
        self._dma = False
        self.values[UARTE.RXD_AMOUNT] = self._filled
        self.event(UARTE.EVENTS_ENDRX)
