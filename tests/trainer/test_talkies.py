"""Speech inside the files of games, which are made here as the games have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.data.talkies import SKY_HEAD, unpack_games, unpacked
from trainer.errors import TrainerError

Step = tuple[bytes, int, int]  # literal bytes, then how far back a copy begins and how long it is


class Packer:
    """Words of 16 bits, the lowest bit first, each at the place where its first bit was needed."""

    def __init__(self) -> None:
        self.out, self.at, self.used = bytearray(), 0, 16

    def bits(self, value: int, count: int) -> None:
        for bit in range(count):
            if self.used == 16:
                self.at, self.used = len(self.out), 0
                self.out += b"\0\0"
            word = int.from_bytes(self.out[self.at : self.at + 2], "little") | (value >> bit & 1) << self.used
            self.out[self.at : self.at + 2] = word.to_bytes(2, "little")
            self.used += 1

    def value(self, value: int) -> None:
        """By a table of sixteen codes of four bits."""
        size = value if value < 2 else value.bit_length()
        self.bits(int(f"{size:04b}"[::-1], 2), 4)
        self.bits(value, size - 1 if size > 1 else 0)


def packed(blocks: list[list[Step]], size: int) -> bytes:
    """As method 1 packs: each block's last step is of literals alone."""
    packer = Packer()
    packer.bits(0, 2)
    for steps in blocks:
        for _ in range(3):
            packer.bits(16, 5)
            for _ in range(16):
                packer.bits(4, 4)
        packer.bits(len(steps), 16)
        for number, (literals, back, length) in enumerate(steps, 1):
            packer.value(len(literals))
            packer.out += literals
            if number < len(steps):
                packer.value(back - 1)
                packer.value(length - 2)
    head = b"RNC\1" + size.to_bytes(4, "big") + len(packer.out).to_bytes(4, "big") + bytes(5)
    return head + bytes([len(blocks)]) + bytes(packer.out)


def random_steps(rng: np.random.Generator, made: bytearray, count: int) -> list[Step]:
    steps = []
    for number in range(count):
        literals = rng.bytes(int(rng.choice([0, 1, 2, 3, 40, 900])) if made else 5)
        made += literals
        back, length = int(rng.integers(1, len(made) + 1)), int(rng.choice([2, 3, 9, 300]))
        if number + 1 < count:
            for _ in range(length):  # a copy may run into what it makes
                made.append(made[-back])
        steps.append((literals, back, length))
    return steps


@pytest.mark.parametrize("seed", range(20))
def test_what_was_packed_is_unpacked(seed: int) -> None:
    rng, made = np.random.default_rng(seed), bytearray()
    blocks = [random_steps(rng, made, int(rng.integers(1, 30))) for _ in range(int(rng.integers(1, 4)))]
    assert unpacked(packed(blocks, len(made))) == made


def game(folder: Path, files: dict[int, tuple[bytes, bool]]) -> Path:
    """sky.dsk and sky.dnr of files, number -> (content behind the head, in units of 16 bytes)."""
    disk, table = bytearray(), len(files).to_bytes(4, "little")
    for number, (data, unit) in files.items():
        disk += bytes(-len(disk) % 16)
        place, size = (len(disk) >> 4 | 1 << 23 if unit else len(disk)), SKY_HEAD + len(data)
        table += number.to_bytes(2, "little") + place.to_bytes(3, "little") + size.to_bytes(3, "little")
        disk += b"\x81" + bytes(SKY_HEAD - 1) + data
    home = folder / "usr/share/scummvm/beneath-a-steel-sky"
    home.mkdir(parents=True)
    (home / "sky.dsk").write_bytes(disk)
    (home / "sky.dnr").write_bytes(table)
    return home


def test_a_game_gives_its_speech(tmp_path: Path) -> None:
    small = packed([[(b"\x80\x90", 2, 6), (b"\x70", 0, 0)]], 9)
    home = game(tmp_path, {50_007: (b"\x80\x81" * 4, False), 52_000: (small, True), 60_000: (b"music", False)})
    unpack_games(tmp_path)
    speech = {file.name: file.read_bytes() for file in (home / "sky").iterdir()}
    assert speech == {"50007.u8": b"\x80\x81" * 4, "52000.u8": b"\x80\x90" * 4 + b"\x70"}


def test_a_damaged_game_is_one_sentence(tmp_path: Path) -> None:
    whole = packed([[(b"\x80\x90", 2, 6), (b"\x70", 0, 0)]], 9)
    game(tmp_path, {50_007: (whole[:22] + bytes(8), False)})
    with pytest.raises(TrainerError, match=r"sky\.dsk: damaged; remove the package"):
        unpack_games(tmp_path)
