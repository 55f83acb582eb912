"""The flash controller NVMC and what it lets a program write: words, from ones to zeros, in their time (nRF52840
Product Specification)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from host.emulator.image.elf import FLASH_BYTES
from host.emulator.peripherals.base import Chip, Peripheral

PAGE = 0x1000
UICR = 0x10001000
_WRITE_CYCLES = 41 * 64  # a word, 41 us
_MS = 64_000
_ERASE_MS, _ERASE_ALL_MS = 85, 169
_READY, _READYNEXT, _CONFIG, _ERASEPAGE, _ERASEALL, _ERASEPCR0, _ERASEUICR, _PARTIAL, _PARTIALCFG, _ICACHECNF = (
    0x400,
    0x408,
    0x504,
    0x508,
    0x50C,
    0x510,
    0x514,
    0x518,
    0x51C,
    0x540,
)
_WRITES, _ERASES = 1, 2  # CONFIG.WEN


class Nvmc(Peripheral):
    """ICACHECNF decides which of the two cycle figures is the board's time; CONFIG.WEN what may be done to the
    flash."""

    names: Mapping[int, str] = {
        _READY: "READY",
        _READYNEXT: "READYNEXT",
        _CONFIG: "CONFIG",
        _ERASEPAGE: "ERASEPAGE",
        _ERASEALL: "ERASEALL",
        _ERASEPCR0: "ERASEPCR0",
        _ERASEUICR: "ERASEUICR",
        _PARTIAL: "ERASEPAGEPARTIAL",
        _PARTIALCFG: "ERASEPAGEPARTIALCFG",
        _ICACHECNF: "ICACHECNF",
        0x548: "IHIT",
        0x54C: "IMISS",
    }

    def __init__(
        self,
        chip: Chip,
        set_cache: Callable[[bool], None],
        erase: Callable[[int, int], None],
        stall: Callable[[int], None],
        watch_stores: Callable[[bool], None],
    ) -> None:
        super().__init__(chip, 0x4001E000, None, "NVMC")
        self._set_cache, self._erase, self._stall, self._watch_stores = set_cache, erase, stall, watch_stores
        self._ready_at = 0
        self._partly: dict[int, int] = {}  # page -> milliseconds of partial erasing so far

    @property
    def writes(self) -> bool:
        return self.registers.get(_CONFIG, 0) & 3 == _WRITES

    def value_of(self, offset: int) -> int:
        if offset in (_READY, _READYNEXT):
            return int(self.chip.schedule.now() >= self._ready_at)
        return self.registers.get(offset, 10 if offset == _PARTIALCFG else 0)

    def written(self, words: int) -> None:
        """A store has changed so many words."""
        self._work(_WRITE_CYCLES * words)

    def _work(self, cycles: int) -> None:
        """The flash is at work from now on, or once it has finished what it does: a core that runs from it stands
        still."""
        now = self.chip.schedule.now()
        left = max(0, self._ready_at - now)
        self._ready_at = now + left + cycles
        self._stall(left + cycles)

    def changed(self, offset: int, value: int) -> None:
        if offset == _ICACHECNF:
            self._set_cache(bool(value & 1))
        elif offset == _CONFIG:
            self._watch_stores(self.writes)
        elif self.registers.get(_CONFIG, 0) & 3 != _ERASES:
            return
        elif offset in (_ERASEPAGE, _ERASEPCR0):
            self._erase_page(value)
            self._work(_ERASE_MS * _MS)
        elif offset == _PARTIAL:
            self._erase_partly(value)
        elif offset in (_ERASEALL, _ERASEUICR) and value & 1:
            self._erase(UICR, PAGE)
            if offset == _ERASEALL:
                self._erase(0, FLASH_BYTES)
            self._work((_ERASE_ALL_MS if offset == _ERASEALL else _ERASE_MS) * _MS)

    def _erase_page(self, address: int) -> None:
        page = address & FLASH_BYTES - PAGE
        self._partly.pop(page, None)
        self._erase(page, PAGE)

    def _erase_partly(self, address: int) -> None:
        """The page is erased when its parts add up to the whole time."""
        page, duration = address & FLASH_BYTES - PAGE, self.value_of(_PARTIALCFG) & 0x7F
        self._partly[page] = self._partly.get(page, 0) + duration
        if self._partly[page] >= _ERASE_MS:
            self._erase_page(page)
        self._work(duration * _MS)
