"""The flash controller NVMC and what it lets a program write: words, from ones to zeros, in their time (nRF52840
Product Specification)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from converter.checked import Items, Row, Rule, Whole
from host.emulator.image.elf import FLASH_BYTES
from host.emulator.peripherals.base import CYCLES, RO, RW, Bus, Peripheral, Registers

PAGE = 0x1000
UICR = 0x10001000
_WRITE_CYCLES = 41 * 64  # a word, 41 us
_MS = 64_000
_ERASE_MS, _ERASE_ALL_MS = 85, 169
_WRITES, _ERASES = 1, 2  # CONFIG.WEN


class NVMC(Registers):
    """The flash controller's registers."""

    READY = 0x400, RO, 1
    READYNEXT = 0x408, RO
    CONFIG = 0x504
    ERASEPAGE = 0x508
    ERASEALL = 0x50C
    ERASEPCR0 = 0x510
    ERASEUICR = 0x514
    ERASEPAGEPARTIAL = 0x518
    ERASEPAGEPARTIALCFG = 0x51C, RW, 10
    ICACHECNF = 0x540
    IHIT = 0x548
    IMISS = 0x54C


_COUNTERS = (NVMC.IHIT, NVMC.IMISS)
_PROFILES = 1 << 8  # ICACHECNF.CACHEPROFEN


class Nvmc(Peripheral):
    """ICACHECNF switches the instruction cache and the counting of its hits and misses, IHIT and IMISS; CONFIG.WEN says
    what may be done to the flash."""

    layout = NVMC
    SAVED: ClassVar[dict[str, Rule]] = {
        **Peripheral.SAVED,
        "_counted_from": Row((CYCLES, CYCLES)),
        "_ready_at": CYCLES,
        "_partly": Items(Row((Whole(0, FLASH_BYTES - 1), Whole(0, _ERASE_MS))), most=FLASH_BYTES // PAGE),
    }

    def __init__(
        self,
        bus: Bus,
        number: int,
        set_cache: Callable[[bool], None],
        cache_counts: Callable[[], tuple[int, int]],
        erase: Callable[[int, int], None],
        stall: Callable[[int], None],
        watch_stores: Callable[[bool], None],
    ) -> None:
        super().__init__(bus, number)
        self._set_cache, self._erase, self._stall, self._watch_stores = set_cache, erase, stall, watch_stores
        self._cache_counts = cache_counts
        self._counted_from = [0, 0]  # what the cache had counted when a counter here was 0
        self._ready_at = 0
        self._partly: dict[int, int] = {}  # page -> milliseconds of partial erasing so far

    @property
    def writes(self) -> bool:
        """Whether the program may write to flash."""
        return self.stored(NVMC.CONFIG) & 3 == _WRITES

    def value_of(self, offset: int) -> int:
        """READY is 0 while the flash is at work."""
        if offset in (NVMC.READY, NVMC.READYNEXT):
            return int(self.bus.schedule.now() >= self._ready_at)
        if offset in _COUNTERS and self.stored(NVMC.ICACHECNF) & _PROFILES:
            which = _COUNTERS.index(offset)
            return self._cache_counts()[which] - self._counted_from[which] & 0xFFFFFFFF
        return self.stored(offset)

    def written(self, words: int) -> None:
        """A store has changed so many words."""
        self._work(_WRITE_CYCLES * words)

    def _work(self, cycles: int) -> None:
        """The flash is at work from now on, or once it has finished what it does: a core that runs from it stands
        still."""
        now = self.bus.schedule.now()
        left = max(0, self._ready_at - now)
        self._ready_at = now + left + cycles
        self._stall(left + cycles)

    def changed(self, offset: int, value: int) -> None:
        """The cache, what may be done, and erasing."""
        if offset == NVMC.ICACHECNF:
            self._set_cache(bool(value & 1))
            self._counted_from = list(self._cache_counts())
        elif offset in _COUNTERS:
            which = _COUNTERS.index(offset)
            self._counted_from[which] = self._cache_counts()[which] - value
        elif offset == NVMC.CONFIG:
            self._watch_stores(self.writes)
        elif self.stored(NVMC.CONFIG) & 3 != _ERASES:
            return
        elif offset in (NVMC.ERASEPAGE, NVMC.ERASEPCR0):
            self._erase_page(value)
            self._work(_ERASE_MS * _MS)
        elif offset == NVMC.ERASEPAGEPARTIAL:
            self._erase_partly(value)
        elif offset in (NVMC.ERASEALL, NVMC.ERASEUICR) and value & 1:
            self._erase(UICR, PAGE)
            if offset == NVMC.ERASEALL:
                self._erase(0, FLASH_BYTES)
            self._work((_ERASE_ALL_MS if offset == NVMC.ERASEALL else _ERASE_MS) * _MS)

    def _erase_page(self, address: int) -> None:
        page = address & FLASH_BYTES - PAGE
        self._partly.pop(page, None)
        self._erase(page, PAGE)

    def _erase_partly(self, address: int) -> None:
        """The page is erased when its parts add up to the whole time."""
        page, duration = address & FLASH_BYTES - PAGE, self.stored(NVMC.ERASEPAGEPARTIALCFG) & 0x7F
        self._partly[page] = self._partly.get(page, 0) + duration
        if self._partly[page] >= _ERASE_MS:
            self._erase_page(page)
        self._work(duration * _MS)
