"""The virtual Nano 33 BLE: runs the board's ELF with its peripherals, microphone, serial port and a cycle model."""

from host.emulator.errors import BoardError
from host.emulator.session.launcher import launch

__all__ = ["BoardError", "launch"]
