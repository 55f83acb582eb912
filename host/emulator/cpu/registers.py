"""Core registers in groups: one call of Unicorn's C API for many registers, an order of magnitude faster than one by
one."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from unicorn.unicorn_py3.unicorn import uclib


class RegisterGroup:
    """32-bit registers read and written together, in this order."""

    def __init__(self, uc: Any, registers: Sequence[int]) -> None:
        count = len(registers)
        self._engine, self._count = uc._uch, count
        self._ids = (ctypes.c_int * count)(*registers)
        self._values = (ctypes.c_uint32 * count)()
        first = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_void_p * count)(*(first + 4 * index for index in range(count)))

    def read(self) -> list[int]:
        """What they hold."""
        uclib.uc_reg_read_batch(self._engine, self._ids, self._pointers, self._count)
        return self._values[:]

    def write(self, values: Sequence[int]) -> None:
        """Set them all."""
        self._values[:] = list(values)
        uclib.uc_reg_write_batch(self._engine, self._ids, self._pointers, self._count)
