"""What each part of a firmware image takes of flash and RAM, by the symbols of its ELF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from host.emulator.image.elf import SizedSymbol, load_elf, sized_symbols

ENGINE, FRONT_END, SKETCH, OTHER = (
    "engine",
    "front end",
    "protocol, detector, sketch",
    "start-up, board, C library, padding",
)
_SHARED = ("memcpy", "memmove", "memset")  # of the C library; the engine needs them, so it pays for them
_BY_NAME = (
    (ENGINE, ("nn_", "model_aot", "engine_")),
    (FRONT_END, ("frontend_",)),
    (SKETCH, ("protocol_", "reply_", "text_", "load_", "detector_", "listener_", "commands_", "run_")),
)
_BY_FILE = (
    (ENGINE, ("nn_", "model_aot", "engine_")),
    (FRONT_END, ("frontend",)),
    (SKETCH, ("protocol", "detector", "listener", "commands", "main.cpp")),
)
_FRONT_END_STATE = "front_end"  # a static variable of listener.c
_SKETCH_GLOBALS = ("setup", "loop", "step", "step_samples", "model_input", "model_output")


@dataclass(frozen=True)
class PartSize:
    """Bytes of a part: flash holds what the image stores (code run from RAM too), ram what has its address there,
    without stack."""

    part: str
    flash: int
    ram: int


def part_of(symbol: SizedSymbol) -> str:
    """A local symbol belongs to the part of its source file, a global one to that of its name's first letters.

    >>> part_of(SizedSymbol("arena", "model_aot.c", 0x20004000, 6920, False)), part_of(SizedSymbol("nn_pad", "", 0x100, 40, True))
    ('engine', 'engine')
    """  # noqa: E501
    if symbol.name in _SHARED:
        return ENGINE
    if symbol.name == _FRONT_END_STATE:
        return FRONT_END
    if symbol.name in _SKETCH_GLOBALS or (
        symbol.name.startswith("_Z") and not symbol.file
    ):  # what is C++ here is the sketch
        return SKETCH
    found = [
        part
        for part, starts in (_BY_FILE if symbol.file else _BY_NAME)
        if (symbol.file or symbol.name).startswith(starts)
    ]
    return found[0] if found else OTHER


def part_sizes(elf: Path) -> list[PartSize]:
    """Engine, front end, sketch and the rest; flash sums to the image, RAM to what the linker placed without the stack.

    Unnamed bytes (strings, alignment) count to the rest. Raises BoardError for what is no image of this chip.
    """
    data = elf.read_bytes()
    image = load_elf(elf, data)
    symbols = sized_symbols(data)
    parts = [
        PartSize(
            part,
            sum(s.size for s in symbols if s.in_image and part_of(s) == part),
            sum(s.size for s in symbols if s.in_ram and part_of(s) == part),
        )
        for part in (ENGINE, FRONT_END, SKETCH)
    ]
    flash = sum(len(segment) for _, segment in image.segments)
    ram = image.objects["data_end"].address - image.objects["ramcode_start"].address
    return [*parts, PartSize(OTHER, flash - sum(p.flash for p in parts), ram - sum(p.ram for p in parts))]
