"""The serial protocol: C side and host side on one golden transcript, strictness piece by piece, and both fuzzed."""

from __future__ import annotations

import base64
import ctypes
import random
import re
import shutil
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from protocol_session import GOLDEN, Wire, masked, pcm_lines, session, transcript
from sketch_on_host import FIRMWARE, SPEC, build, running, tinyconv, write_model

from host.errors import HostError
from host.link.client import Board
from host.link.protocol import (
    MAX_LINE,
    Failure,
    Features,
    Heard,
    Identity,
    LayerRun,
    Line,
    Mark,
    Memory,
    Ready,
    Record,
    Run,
    Slice,
    Text,
    parse_line,
    read_detector,
    signed,
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("protocol")
    return build(folder / "build", write_model(folder / "model", tinyconv()))


@pytest.fixture
def wire(program: Path) -> Iterator[Wire]:
    with running(program) as url:
        wire = Wire(url)
        assert [masked(line) for line in wire.reply()] == [
            "m-timestamp-mode-performance",
            "m-lap-us-T",
            "m-init-done",
            "m-ready",
        ]
        yield wire
        wire.socket.close()


def test_golden_transcript(wire: Wire) -> None:
    """The C side answers as recorded; to record a new transcript on purpose, delete the file and run this test."""
    found = transcript(wire)
    if not GOLDEN.exists():
        GOLDEN.write_text(found)
        pytest.fail(f"{GOLDEN.name} was missing and has been written: look at it and commit it")
    assert found.splitlines() == GOLDEN.read_text().splitlines()


def test_host_reads_the_golden_transcript(wire: Wire) -> None:
    """The host's reader takes every line the board can send, and re-reads the same facts."""
    replies: dict[str, list[Line]] = {
        command: [parse_line(line.encode()) for line in wire.ask(command)] for command in session()
    }
    assert all(lines[-1] == Ready() for lines in replies.values())
    prose = [
        line for command, lines in replies.items() for line in lines if isinstance(line, Text) and command != "help%"
    ]
    assert prose == []

    def records(command: str) -> list[Record]:
        return [line for line in replies[command] if isinstance(line, Record)]

    identity = Identity.of(records("id%"))
    assert (identity.spec_id, identity.model_id, identity.labels) == (SPEC.spec_id, tinyconv().model_id, SPEC.labels)
    assert len([LayerRun.of(r) for r in records("layers%") if r.key == "layer"]) == identity.layers == 4
    assert Memory.of(records("memory%")[0]).arena > 4000
    slices = [Slice.of(r) for r in records("features%")[:-1]]
    assert (
        zlib.crc32(Features.of(records("features%")[-1], slices).data)
        == Features.of(records("features%")[-1], slices).crc32
    )
    assert [Run.of(r).index for r in records("runs 3%")] == [0, 1, 2]
    heard = [
        Heard.of(r, 4, 4) for command in session() if command.startswith(("audio", "quiet")) for r in records(command)
    ]
    assert [item.frame for item in heard] == list(range(2, 17, 2)) and {item.lost for item in heard} == {0}


BAD = """
    infer 4294967297|runs 18446744073709551617|db load 99999999999999999999|infer 0x10|infer +1|infer 1.0|listen 1e3|db print -1|runs
    db load|db load 1 1|pcm load -1 0|pcm load 1 0x12|pcm load 1 |db zz|db 000|audio ====|audio AA=A|audio AAB=|audio A\x00AA
    id id|stop now|infer1|\xff\xfe|infer \x7f"""  # noqa: E501


@pytest.mark.parametrize("command", [command.strip(" ") + "%" for command in re.split(r"\||\n", BAD.strip())])
def test_bad_commands_are_refused_and_the_board_lives(wire: Wire, command: str) -> None:
    if command.startswith(("audio", "stream")):
        wire.ask("stream%")
    reply = wire.ask(command.encode("latin1"))
    assert reply[0].startswith("e-[") and len(reply) == 2
    assert isinstance(parse_line(reply[0].encode()), Failure)
    assert wire.ask("name%") == ["m-name-dut-[native_test_board]", "m-ready"]


@pytest.mark.parametrize("command", ["runs 1000000", "windows 1000000", "infer 1000000 0", "infer 1 1000000"])
@pytest.mark.parametrize("byte", [b"", b"x"])
def test_a_byte_on_the_line_ends_a_long_command(wire: Wire, command: str, byte: bytes) -> None:
    start, lines = pcm_lines(1.0)
    for line in (start, *lines):
        assert wire.ask(line)[-1] == "m-ready"
    assert len(wire.ask("runs 5%\r\n \0")) == 6  # what stands between commands is no command
    wire.socket.sendall(command.encode() + b"%\r\n")
    time.sleep(0.2)
    wire.socket.sendall(byte + b"%syncabcd%name%")
    ended, refused, nonce, named = (wire.reply() for _ in range(4))
    assert ended[-2:] == ["e-[ended by what was sent meanwhile]", "m-ready"]
    assert refused == (["m-ready"] if not byte else ["e-[Unknown command: x]", "m-ready"])
    assert nonce == ["e-[Unknown command: syncabcd]", "m-ready"] and named[0].startswith("m-name-dut-[")
    assert len(wire.ask("runs 2%")) == 3


def test_a_byte_on_the_line_ends_quiet_and_a_question_mark_what_is_half_sent(wire: Wire) -> None:
    wire.ask("stream%")
    wire.socket.sendall(b"quiet 16000%name%")
    assert wire.reply()[-2:] == ["e-[ended by what was sent meanwhile]", "m-ready"]
    assert wire.reply()[0].startswith("m-name-dut-[")
    for half in ("detector -20 -20", "runs 100000", "cache 0", "listen"):
        reply = wire.ask(f"{half}?%")
        assert reply[0].startswith("e-[") and len(reply) == 2


def test_a_failed_line_changes_nothing(wire: Wire) -> None:
    wire.ask("db load 4%")
    for bad in ("db 01020%", "db 0102zz%", "db 0102030405%"):
        assert wire.ask(bad)[0].startswith("e-[")
    assert wire.ask("db 01%") == ["m-ready"]
    assert wire.ask("db 020304%")[0] == "m-load-done"
    assert wire.ask("db print%")[0] == "m-buffer-01-02-03-04"


def test_clip_and_input_share_their_place(wire: Wire) -> None:
    """A clip becomes the input; db takes it back; a half-sent clip ends when something else wants the front end."""
    load, lines = pcm_lines()
    for command in (load, *lines):
        wire.ask(command)
    features = wire.ask("features%")
    assert len(features) == 51 and wire.ask("infer 1 0%")[-2].startswith("m-results")
    wire.ask("db load 4%")
    assert wire.ask("features%")[0].startswith("e-[no features") and wire.ask("infer 1 0%")[0].startswith("e-[no input")
    assert wire.ask("runs 1%")[0].startswith("m-run-[0,"), "the samples for timing stay"
    wire.ask(load)
    wire.ask(lines[0])
    wire.ask("stream%")
    assert wire.ask(lines[1])[0].startswith("e-[pcm: nothing is expected")
    assert wire.ask("windows 1%")[0].startswith("e-[no audio")
    for command in (load, *lines):
        wire.ask(command)
    strip = [re.sub(r"^(m-slice-.\d+),\d+|,\d+,\d+]$", r"\1", line) for line in features]
    assert [re.sub(r"^(m-slice-.\d+),\d+|,\d+,\d+]$", r"\1", line) for line in wire.ask("features%")] == strip


WRONG = """
    1|1 2 3|1021 0|0 -1021|4294967296 0|4294967297 0|-4294967296 0|+1 0|1.0 0|0x1 0|-- 0|- 0|1- 0|--1 0|rate|rate 501
    rate -500|rate 500 0|rate 4294967796|Rate 500|1,2|60 rate"""


@pytest.mark.parametrize("words", [words.strip() for words in re.split(r"\||\n", WRONG.strip())])
def test_a_wrong_threshold_changes_none(wire: Wire, words: str) -> None:
    before = wire.ask("detector%")
    assert before[:2] == ["m-detector-[2,4,10,8,60,60]", "m-rate-[500,200,250]"]
    reply = wire.ask(f"detector {words}%")
    assert reply[0].startswith("e-[detector") and len(reply) == 2
    assert wire.ask("detector%") == before


def test_more_words_than_any_command_has_are_refused(wire: Wire) -> None:
    """31 thresholds and 300: beyond what is split, and no further."""
    for count in (31, 300):
        assert wire.ask(f"detector{' 1' * count}%")[0] == "e-[detector: too many words]"
    assert wire.ask(f"detector{' 1' * 30}%")[0].startswith("e-[detector: wants 2 thresholds")
    assert wire.ask("name 1 2 3 4 5 6%")[0] == "e-[name: too many words]"


def test_thresholds_outlast_listening_but_sums_do_not(wire: Wire) -> None:
    """Set within a stream they count from its next inference; a new stream starts with them and without its sums."""

    def words(commands: list[str]) -> list[str]:
        lines = [line for command in commands for line in wire.ask(command)]
        return [line.split(",")[-2] for line in lines if line.startswith("m-heard")]

    quiet = ["quiet 6400%"]  # 20 frames
    assert wire.ask("detector 1020 1020%") == ["m-detector-[2,4,10,8,1020,1020]", "m-ready"]
    silent = words(["stream%", *quiet, *quiet])
    assert set(silent) == {"-1"} and len(silent) == 19
    assert wire.ask("detector -1020 -1020%")[0] == "m-detector-[2,4,10,8,-1020,-1020]"
    after = words(quiet)
    assert after[0] in "23" and set(after[1:5]) == {"-1"} and after[6] in "23" and len(set(after)) == 3
    again = words(["stream%", *quiet, *quiet])
    assert again[:4] == ["-1"] * 4 and again[4] in "23", "it settles anew"
    assert wire.ask("detector rate 2000%")[0] == "m-detector-[2,4,10,8,60,-41]"
    assert wire.ask("id%")[-2] == "m-detector-[2,4,10,8,60,-41]"


def test_detector_while_the_microphone_listens(program: Path, tmp_path: Path) -> None:
    """The records go on, and the next inference is judged by the new thresholds."""
    (tmp_path / "mic.raw").write_bytes(bytes(2 * 16000 * 4))
    with running(program, KWS_MIC=str(tmp_path / "mic.raw")) as url:
        wire = Wire(url)
        wire.reply()
        wire.ask("detector 1020 1020%")
        wire.socket.sendall(b"listen 90%detector -1020 -1020%")
        assert wire.reply() == ["m-ready"]
        reply = wire.reply()
        assert "m-detector-[2,4,10,8,-1020,-1020]" in reply
        heard = [line for line in reply if line.startswith("m-heard")]
        while len(heard) < 90:
            while b"\r\n" not in wire.received:
                wire.received += wire.socket.recv(4096)
            line, _, wire.received = wire.received.partition(b"\r\n")
            heard += [line.decode()] if line.startswith(b"m-heard") else []
        assert [int(line.split("[")[1].split(",")[0]) for line in heard] == list(range(90))
        assert {line.split(",")[-2] for line in heard} >= {"2", "3", "-1"}
        assert wire.ask("detector%")[-3:] == ["m-rate-[500,200,250]", "m-rate-[2000,60,-41]", "m-ready"]
        wire.socket.close()


def test_the_microphones_samples_are_sent(program: Path, tmp_path: Path) -> None:
    """So many steps, or until a command ends it; lost samples are counted."""
    heard = random.Random(3).randbytes(2 * 320 * 60)
    (tmp_path / "mic.raw").write_bytes(heard)
    with running(program, KWS_MIC=str(tmp_path / "mic.raw"), KWS_MIC_LOST="77") as url:
        with Board(url) as board:
            steps = list(board.record(40))
            assert b"".join(pcm.tobytes() for pcm, _ in steps) == heard[: 2 * 320 * 40]
            assert [lost for _, lost in steps] == [True] * 26 + [False] * 14
            recording = board.record()
            pcm, _ = next(recording)
            assert pcm.tobytes() == heard[:640]
            recording.close()
            assert len(list(board.listen(3))) == 3, "listening goes on as ever"
        wire = Wire(url)
        wire.ask("record 2%")
        assert wire.ask("%")[-1] == "m-ready"
        wire.socket.close()


def test_fuzz_c_side(wire: Wire) -> None:
    """Random bytes and broken commands under sanitizers, fixed seed: the board answers each '%' with m-ready and
    lives."""
    generator = random.Random(20)
    good = [
        command.encode() for command in session() if len(command) < 900 and not command.startswith(("runs", "listen"))
    ]
    alphabet = b"0123456789abcdefgAZ+/= -%\r\n\x00\x7f\xff"
    for _ in range(60):
        batch = b""
        for _ in range(60):
            piece = bytearray(generator.choice(good))
            for _ in range(generator.choice((0, 1, 1, 2, 8))):
                where = generator.randrange(len(piece) + 1)
                kind = generator.randrange(3)
                if kind == 0:
                    piece[where:where] = generator.choices(alphabet, k=generator.choice((1, 3, 40)))
                elif kind == 1:
                    del piece[where : where + generator.choice((1, 5, 200))]
                else:
                    piece[where : where + 1] = generator.randbytes(1)
            batch += bytes(piece)
        batch += generator.randbytes(generator.choice((1, 30, 3000)))
        batch = re.sub(rb"(infer|runs|listen)[ ]*[0-9]{3,}", rb"\1 2", batch)  # long work is no malformed input
        wire.socket.sendall(batch + b"%")
        for _ in range(batch.count(b"%") + 1):
            wire.reply()
    wire.ask("stop%")
    assert wire.ask("name%")[-2:] == ["m-name-dut-[native_test_board]", "m-ready"]


@pytest.fixture(scope="module")
def text_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the protocol with")
    out = tmp_path_factory.mktemp("text") / "text.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", str(FIRMWARE / "lib" / "protocol" / "protocol_text.c"), "-o", str(out)],
        check=True,
    )
    library = ctypes.CDLL(str(out))
    library.text_crc32.restype = ctypes.c_uint32
    library.text_crc32.argtypes = [ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint32]
    return library


def test_base64_hex_and_crc_equal_pythons(text_library: ctypes.CDLL) -> None:
    generator = random.Random(3)
    room = ctypes.create_string_buffer(b"\xa5" * 80, 80)
    for size in range(1, 68):
        data = generator.randbytes(size)
        assert text_library.text_crc32(0, data, size) == zlib.crc32(data)
        for encode, decode in (
            (base64.b64encode, text_library.text_base64_bytes),
            (bytes.hex, text_library.text_hex_bytes),
        ):
            text = encode(data)
            text = text if isinstance(text, bytes) else text.encode()
            room.raw = b"\xa5" * 80
            assert decode(text, room, size) == size and room.raw == data + b"\xa5" * (80 - size)
            assert decode(text, room, size - 1) == -1
            broken = bytearray(text)
            broken[generator.randrange(len(text))] = generator.choice(b"!~:@`{")
            room.raw = b"\xa5" * 80
            assert decode(bytes(broken), room, 80) == -1 and room.raw == b"\xa5" * 80


def test_base64_refuses_what_python_would_spell_otherwise(text_library: ctypes.CDLL) -> None:
    room = ctypes.create_string_buffer(80)
    generator = random.Random(4)
    for _ in range(20000):
        text = bytes(generator.choices(b"AQgw+/=z", k=generator.randrange(1, 13)))
        try:
            data = base64.b64decode(text, validate=True)
            expected = len(data) if base64.b64encode(data) == text else -1
        except ValueError:
            expected = -1
        assert text_library.text_base64_bytes(text, room, 80) == expected, text


def test_decimal_numbers(text_library: ctypes.CDLL) -> None:
    value = ctypes.c_uint32(77)
    for text, low, high, expected in [
        (b"0", 0, 9, 0),
        (b"10", 0, 9, None),
        (b"4294967295", 0, 2**32 - 1, 2**32 - 1),
        (b"", 0, 9, None),
        (b"4294967296", 0, 2**32 - 1, None),
        (b"00007", 0, 9, 7),
        (b" 1", 0, 9, None),
        (b"1-", 0, 9, None),
        (b"42949672950", 0, 2**32 - 1, None),
        (b"3", 4, 9, None),
    ]:
        value.value = 77
        found = text_library.text_u32(text, ctypes.c_uint32(low), ctypes.c_uint32(high), ctypes.byref(value))
        assert (found, value.value) == ((0, 77) if expected is None else (1, expected)), text
    signed_value = ctypes.c_int32(77)
    for text, limit, expected in [
        (b"-9", 9, -9),
        (b"9", 9, 9),
        (b"-0", 9, 0),
        (b"-10", 9, None),
        (b"10", 9, None),
        (b"-", 9, None),
        (b"--1", 9, None),
        (b"+1", 9, None),
        (b"- 1", 9, None),
        (b"-2147483647", 2**31 - 1, 1 - 2**31),
        (b"-2147483648", 2**31 - 1, None),
        (b"-4294967297", 9, None),
    ]:
        signed_value.value = 77
        found = text_library.text_i32(text, ctypes.c_int32(limit), ctypes.byref(signed_value))
        assert (found, signed_value.value) == ((0, 77) if expected is None else (1, expected)), text


def test_fuzz_host_side() -> None:
    """The host's reader gives a line or HostError for anything, fixed seed; no other exception."""
    generator = random.Random(21)
    good = [
        b"m-ready",
        b"e-[no]",
        b"m-lap-us-12",
        b"m-id-[a,b,c]",
        b"m-firmware-[0.1.0,2,aot,x,64000000]",
        b"m-network-[1960,4,4]",
        b"m-labels-[silence,unknown,yes,no]",
        b"m-audio-[16000,480,320,16000,49,40]",
        b"m-detector-[2,8,25,75,180,-50]",
        b"m-rate-[500,180,-50]",
        b"m-memory-[1,2,3,4]",
        b"m-layer-[0,conv,12,0123abcd]",
        b"m-slice-[0,1,00ff]",
        b"m-features-[2,00000000,1,1]",
        b"m-run-[0,2,1,1,1,1,0,0,0,0]",
        b"m-heard-[0,2,1,1,1,0,0,0,00ff0180,-1,0]",
        b"m-buffer-00-ff",
    ]
    kinds: dict[str, int] = {}
    for _ in range(30000):
        line = bytearray(generator.choice(good))
        for _ in range(generator.choice((0, 1, 2, 6))):
            where = generator.randrange(len(line) + 1)
            line[where : where + generator.randrange(3)] = generator.choices(
                b"m-[],0189afxyz \x00\xff", k=generator.randrange(4)
            )
        try:
            parsed = parse_line(bytes(line))
            kinds[type(parsed).__name__] = kinds.get(type(parsed).__name__, 0) + 1
            if isinstance(parsed, Record):
                _read_all(parsed)
        except HostError as error:
            kinds["HostError"] = kinds.get("HostError", 0) + 1
            assert str(error) and "\n" not in str(error)
    assert kinds.keys() == {"Ready", "Failure", "Mark", "Record", "Text", "HostError"}


def _read_all(record: Record) -> None:
    """Every typed reader on one record; the first that refuses ends it."""
    read_detector([record], 4)
    Identity.of([record, Record("firmware", ("1", "2", "aot", "b", "64000000")), Record("network", ("1", "4", "4"))])
    for read in (Memory.of, LayerRun.of, Slice.of, Run.of):
        read(record)


@pytest.mark.parametrize(
    "line",
    [
        b"m-run-[0,2,1,1,1,1,0,0,0]",
        b"m-run-[0,2,1,1,1,1,0,0,0,-1]",
        b"m-run-[0,2,1,1,1,1,0,0,0,4294967296]",
        b"m-run-[0,2,1,1,1,1,0,0,0,]",
        b"m-run-[0,2,1,1,1,1,0,0,0,1e3]",
    ],
)
def test_bad_run_records_are_refused(line: bytes) -> None:
    record = parse_line(line)
    assert isinstance(record, Record)
    with pytest.raises(HostError, match="m-run"):
        Run.of(record)


def test_lines_that_are_none() -> None:
    for line in (
        b"m-",
        b"m-[",
        b"e-no",
        b"m-lap-us-1x",
        b"m-run-[1]x",
        b"\x00",
        b"x" * (MAX_LINE + 1),
        "m-ä".encode(),
        b"m-run-[[1]]",
    ):
        with pytest.raises(HostError):
            parse_line(line)
    assert parse_line(b"hello") == Text("hello")
    assert parse_line(b"m-init-done") == Mark("init-done")
    assert signed(b"\x00\x7f\x80\xff") == (0, 127, -128, -1)
