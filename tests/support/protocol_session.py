"""A conversation with a board that uses every command, good and bad: the same for the sketch on this machine and on the
virtual board."""

from __future__ import annotations

import base64
import random
import re
import socket
import zlib
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden" / "protocol_session.txt"
# Times and the stamps that depend on the build are not part of the transcript.
MASKS = (
    (re.compile(r"(?<=m-lap-us-)\d+"), "T"),
    (re.compile(r"(?<=m-layer-\[)(\d+,[^,]*),\d+"), r"\1,T"),
    (re.compile(r"(?<=m-slice-\[)(\d+),\d+"), r"\1,T"),
    (re.compile(r"(?<=m-features-\[)(\d+,[0-9a-f]+),\d+,\d+"), r"\1,T,T"),
    (re.compile(r"(?<=m-window-\[)(\d+,\d+),\d+,\d+"), r"\1,T,T"),
    (re.compile(r"(?<=m-run-\[)(\d+,\d+)(,\d+){10}"), r"\1,T"),
    (re.compile(r"(?<=m-heard-\[)(\d+,\d+)(,\d+){6}"), r"\1,T"),
    (re.compile(r"m-memory-\[.*\]"), "m-memory-[T]"),
    (re.compile(r"m-cache-\[\d+,\d+\]"), "m-cache-[T]"),
    (re.compile(r"(?<=m-firmware-\[)[^,]*(,\d+,\w+),[^,]*"), r"V\1,BOARD"),
    (re.compile(r"(?<=m-name-dut-\[)[^\]]*"), "BOARD"),
)


class Wire:
    """The bare line: sends bytes, reads what came up to m-ready."""

    def __init__(self, url: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30)
        self.received = b""

    def reply(self) -> list[str]:
        lines: list[str] = []
        while not lines or lines[-1] != "m-ready":
            while b"\r\n" not in self.received:
                chunk = self.socket.recv(4096)
                assert chunk, f"the board hung up after {lines}"
                self.received += chunk
            line, _, self.received = self.received.partition(b"\r\n")
            lines.append(line.decode("ascii"))
        return lines

    def ask(self, command: str | bytes) -> list[str]:
        self.socket.sendall(command.encode() if isinstance(command, str) else command)
        return self.reply()


def pcm_lines(seconds: float = 0.1) -> tuple[str, list[str]]:
    """`pcm load` and its lines for a fixed made-up sound."""
    generator = random.Random(5)
    data = b"".join(
        generator.randint(-9000, 9000).to_bytes(2, "little", signed=True) for _ in range(int(16000 * seconds))
    )
    lines = [f"pcm {base64.b64encode(data[at : at + 640]).decode()}%" for at in range(0, len(data), 640)]
    return f"pcm load {len(data) // 2} {zlib.crc32(data):08x}%", lines


def masked(line: str) -> str:
    for pattern, replacement in MASKS:
        line = pattern.sub(replacement, line)
    return line


def session() -> list[str]:
    """Every command at least once, good and bad."""
    values = bytes((7 * i + 3) % 256 for i in range(1960))
    load, lines = pcm_lines()
    words = """
        name|profile|timestamp|help|id|detector|detector rate 2000|detector rate 501|detector rate|detector rate 500 1|detector rate -1
        detector 1|detector 1 2 3|detector 1021 0|detector 0 -1021|detector 99999999999 0|detector +1 0|detector 1 0x2|detector -|detector - 1
        detector -20 -0|id|detector rate 500|memory|cache 0|cache 2|cache|cache 1|cache 3|results|infer 1|db|db load 0|db load 1961|db load x|db 00|db load 3
        db 0|db 0g|db 0102|db print|db 0304|db 0A|db print 2 1|db print 1 4|infer 1 0|db load 1960|VALUES|infer 2 1|infer 0|infer 1 -1
        infer 1 1 1|infer 1000001|results|layers|features|runs 1|pcm|pcm load 9|pcm load 16001 0|pcm load 4 123456789|pcm AAAA|pcm load 2 0
        pcm AAA=|pcm AAAAAA==|pcm AAAA|pcm load 2 0|pcm AQACAA==|CLIP|features|infer 1 0|layers|windows 0|windows 2|runs 0|runs 3
        audio AAAA|stream|AUDIO|audio A|quiet 0|quiet 16001|quiet 1000|detector -1020 1020|quiet 3000|listen 5|listen -1|record 5|record -1|stop|pcm load 320 0|stream|pcm AAAA
        nonsense|NAME"""  # noqa: E501
    pieces = {
        "VALUES": [f"db {values[at : at + 400].hex()}%" for at in range(0, 1960, 400)],
        "CLIP": [load, *lines],
        "AUDIO": [line.replace("pcm", "audio") for line in lines],
    }
    commands = ["%"]
    for word in re.split(r"\||\n", words.strip()):
        commands += pieces.get(word.strip(), [word.strip() + "%"])
    return [*commands, "x" * 1024 + "%", "x" * 1025 + "%", "name" + " " * 2000 + "%", "\r\n name %", "name\tname%"]


def transcript(wire: Wire) -> str:
    rows = []
    for command in session():
        shown = (
            command
            if len(command) <= 60
            else f"{command[:40]}... {len(command)} characters, CRC-32 {zlib.crc32(command.encode()):08x}"
        )
        rows.append(f"> {shown!r}")
        rows += [f"< {masked(line)}" for line in wire.ask(command)]
    return "\n".join(rows) + "\n"
