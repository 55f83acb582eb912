"""Speech inside the files of talkie games, as Debian has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainer.errors import TrainerError

QUEEN = "queen.1c"  # Flight of the Amazon Queen
SKY = "sky.dsk"  # Beneath a Steel Sky; sky.dnr is its table
SKY_SPEECH, SKY_HEAD = range(50_000, 59_494), 22  # numbers of files of speech, bytes before the samples


def unpack_games(folder: Path) -> None:
    """The speech of the games under `folder`: queen/NAME.mp3 and sky/NUMBER.u8 (unsigned bytes at 11025 Hz) beside
    their files. Raises TrainerError."""
    for game in (*folder.glob(f"usr/share/scummvm/*/{QUEEN}"), *folder.glob(f"usr/share/scummvm/*/{SKY}")):
        data = game.read_bytes()
        try:
            if game.name == QUEEN:
                sounds = {name: file for name, file in queen_files(data).items() if name.endswith(".SB")}
                _write(game.with_name("queen"), sounds, ".mp3")
            else:
                _write(game.with_name("sky"), dict(_sky_speech(data, game.with_suffix(".dnr").read_bytes())), ".u8")
        except (ValueError, IndexError, ZeroDivisionError):
            raise TrainerError(
                f"{game.name}: damaged; remove the package that holds it, and it is fetched again"
            ) from None


def _write(folder: Path, files: dict[str, bytes], suffix: str) -> None:
    folder.mkdir()
    for name, data in files.items():
        (folder / Path(name).name).with_suffix(suffix).write_bytes(data)


def queen_files(data: bytes) -> dict[str, bytes]:
    """Name -> content of the files in queen.1c: after a head of 13 bytes their number, then 21 bytes each: a name ended
    by zeros, the disk, where it begins and its size; numbers have the higher byte first."""
    found = {}
    for at in range(15, 15 + 21 * int.from_bytes(data[13:15], "big"), 21):
        start, size = (int.from_bytes(data[at + k : at + k + 4], "big") for k in (13, 17))
        found[data[at : at + 12].split(b"\0")[0].decode("latin-1")] = data[start : start + size]
    return found


def _sky_speech(disk: bytes, table: bytes) -> Iterator[tuple[str, bytes]]:
    """Number -> samples. The table: how many files, then 8 bytes each: number, place (bit 23: in units of 16), size
    (22 bits; bit 23: not packed); numbers have the lower byte first."""
    for at in range(4, 4 + 8 * int.from_bytes(table[:4], "little"), 8):
        number, place, size = (int.from_bytes(table[at + a : at + b], "little") for a, b in ((0, 2), (2, 5), (5, 8)))
        if number in SKY_SPEECH:
            start = (place & 0x7FFFFF) << (4 if place >> 23 else 0)
            data = disk[start + SKY_HEAD : start + (size & 0x3FFFFF)]
            yield str(number), unpacked(data) if data[:4] == b"RNC\1" else data


def unpacked(data: bytes) -> bytes:
    """What Rob Northen's compressor (RNC, method 1) packed: blocks of literal runs and copies of what came before,
    whose lengths and distances are Huffman codes. Raises ValueError, IndexError or ZeroDivisionError where it is
    damaged."""
    bits, out = _Bits(data, 18), bytearray()
    bits.take(2)
    for _ in range(data[17]):
        runs, distances, lengths = bits.codes(), bits.codes(), bits.codes()
        for left in range(bits.take(16), 0, -1):
            out += bits.literals(bits.value(runs))
            if left > 1:
                start, length = len(out) - bits.value(distances) - 1, bits.value(lengths) + 2
                repeated = bytes(out[start : start + length])  # shorter where it is to be repeated
                out += (repeated * -(-length // len(repeated)))[:length]
    if len(out) != int.from_bytes(data[4:8], "big"):
        raise ValueError("not as many bytes as it says")
    return bytes(out)


Codes = list[tuple[int, int, int]]  # how many bits, these bits, the value


class _Bits:
    """Of words of 16 bits, the lowest bit first; literal bytes lie between them, behind the word that was begun."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._at, self._held, self._count = data, start, 0, 0

    def _hold(self, count: int) -> None:
        while self._count < count:
            self._held |= int.from_bytes(self._data[self._at : self._at + 2], "little") << self._count
            self._at, self._count = self._at + 2, self._count + 16

    def take(self, count: int) -> int:
        self._hold(count)
        found = self._held & ((1 << count) - 1)
        self._held, self._count = self._held >> count, self._count - count
        return found

    def codes(self) -> Codes:
        """A table: how many values, and four bits each, the length of a value's code; codes of a length follow each
        other, the highest bit first in the stream."""
        sizes, code = [self.take(4) for _ in range(self.take(5))], 0
        found: Codes = []
        for size in range(1, 16):
            for value, own in enumerate(sizes):
                if own == size:
                    found.append((size, int(f"{code >> (16 - size):0{size}b}"[::-1], 2), value))
                    code += 1 << (16 - size)
        return found

    def value(self, codes: Codes) -> int:
        """The next one: 0, 1, or n for a number of n bits, whose lower ones follow. Raises ValueError."""
        self._hold(16)
        for size, code, value in codes:
            if self._held & ((1 << size) - 1) == code:
                self.take(size)
                return value if value < 2 else 1 << (value - 1) | self.take(value - 1)
        raise ValueError("no code of its table")

    def literals(self, count: int) -> bytes:
        while count and self._count >= 16:  # words that were read ahead are none
            self._at, self._count = self._at - 2, self._count - 16
            self._held &= (1 << self._count) - 1
        found = self._data[self._at : self._at + count]
        self._at += count
        return found
