"""A board that answers nothing or nonsense, resets, disappears, or is in use: one sentence each, no traceback, no
hang."""

from __future__ import annotations

import base64
import os
import random
import socket
import sys
import threading
import time
import tty
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import serial
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from host.errors import HostError
from host.link import wire
from host.link.client import Board
from host.link.protocol import MAX_LINE
from host.link.wire import MOST_BYTES, MOST_LINES, find_port

NAME = b"m-name-dut-[board]\r\nm-ready\r\n"
ID = (
    b"m-id-[aaaaaaaaaaaa,bbbbbbbbbbbb,tiny]\r\nm-firmware-[0.1.0,2,aot,board,64000000]\r\nm-network-[8,4,2]\r\n"
    b"m-labels-[silence,unknown,yes,stop]\r\nm-audio-[16000,480,320,16000,49,40]\r\nm-detector-[2,8,25,75,180,-50]\r\nm-ready\r\n"
)
RUN = b"2,1,1,1,1,0,0,0,0"  # figures of a run
BOOT = b"m-timestamp-mode-performance\r\nm-lap-us-5\r\nm-init-done\r\nm-ready\r\n"


class Peer:
    """A TCP peer that answers commands by a script: bytes per command, None to hang up."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self.server.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        try:
            line, _ = self.server.accept()
            line.settimeout(30)
            waiting = b""
            while chunk := line.recv(4096):
                waiting += chunk
                while b"%" in waiting:
                    command, _, waiting = waiting.partition(b"%")
                    reply = self.answer(command)
                    if reply is None:
                        line.close()
                        return
                    line.sendall(reply)
        except OSError:
            pass

    def close(self) -> None:
        self.server.close()
        self.thread.join(timeout=5)


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[bytes], bytes | None]], str]]:
    peers: list[Peer] = []

    def start(answer: Callable[[bytes], bytes | None]) -> str:
        peers.append(Peer(answer))
        return peers[-1].url

    yield start
    for one in peers:
        one.close()


Start = Callable[[Callable[[bytes], bytes | None]], str]


def polite(replies: dict[bytes, bytes | None]) -> Callable[[bytes], bytes | None]:
    """Answers name and id as a board does, and the rest from `replies` by the command's first word."""
    known: dict[bytes, bytes | None] = {
        b"": b"m-ready\r\n",
        b"stop": b"m-ready\r\n",
        b"name": NAME,
        b"id": ID,
        **replies,
    }
    return lambda command: known.get(command.split(b" ")[0], b"e-[Unknown command: %s]\r\nm-ready\r\n" % command)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(HostError) as caught:
        call()
    text = str(caught.value)
    assert text and "\n" not in text and len(text) < 300
    return text


def test_silent_board(peer: Start) -> None:
    assert "no answer to name% within 0.5 s" in refused(lambda: Board(peer(lambda _: b""), timeout_s=0.5))


def test_a_silent_board_on_a_cable_is_told_sooner(peer: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "NAME_S", 0.4)
    monkeypatch.setattr(Board, "modelled", False)
    assert "no answer to name% within 0.4 s" in refused(lambda: Board(peer(lambda _: b"")))


def test_a_board_that_could_not_start_is_quoted(peer: Start) -> None:
    broken = b"e-[TFLM: the arena is too small]\r\nm-ready\r\n"  # board_fail, to each '%'
    assert "It says: TFLM: the arena is too small" in refused(lambda: Board(peer(lambda _: broken), timeout_s=0.5))


def test_noise_instead_of_lines(peer: Start) -> None:
    noise = random.Random(1).randbytes(2 * MAX_LINE).replace(b"\n", b"")
    assert "without an end of line" in refused(lambda: Board(peer(lambda _: noise), timeout_s=5))


def test_another_program_that_speaks_lines(peer: Start) -> None:
    assert "no answer to name%" in refused(lambda: Board(peer(lambda _: b"hello world\r\n"), timeout_s=0.5))


def test_boot_lines_before_the_name_are_no_reset(peer: Start) -> None:
    with Board(peer(polite({b"": BOOT + b"garb\xffage\r\nm-ready\r\n"}))) as board:
        assert board.identity.model_id == "bbbbbbbbbbbb"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (BOOT, "the board reset during memory%"),
        (None, "the board disappeared during memory%"),
        (b"m-memory-[1,2,3]\r\nm-ready\r\n", "wants 4 fields, got 3"),
        (b"m-memory-[1,2,3,x]\r\nm-ready\r\n", "'x' is no number"),
        (b"m-memory-[1,2,3,4\r\nm-ready\r\n", "no record of the protocol"),
        (b"m-memory-[1,2,\xff,4]\r\nm-ready\r\n", "no line of text"),
        (b"m-" + b"x" * 2 * MAX_LINE + b"\r\nm-ready\r\n", "end of line"),
        (b"m-ready\r\n", "wants one memory record, got 0"),
        (b"m-memory-[1,2,3,4]\r\nm-memory-[1,2,3,4]\r\nm-ready\r\n", "got 2"),
        (b"hello\r\nm-ready\r\n", "unexpected Text"),
        (b"e-[broken]\r\nm-ready\r\n", "answers memory% with: broken"),
        (b"m-" + b"x" * 9000 + b"\r\nm-ready\r\n", "unexpected Mark"),
        (b"m-memory-[1,2,3,4]\r\n", "no answer to memory% within"),
    ],
)
def test_bad_replies(peer: Start, reply: bytes | None, says: str) -> None:
    with Board(peer(polite({b"memory": reply})), timeout_s=1) as board:
        assert says in refused(board.memory)


@pytest.mark.parametrize(
    "change",
    [
        (b"m-firmware-[0.1.0,2", b"m-firmware-[0.1.0,1"),
        (b"m-firmware-[0.1.0,2", b"m-firmware-[0.1.0,3"),
        (b"m-network-[8,4,2]\r\n", b""),
        (b"m-detector-[2,8", b"m-detector-[0,8"),
        (b"180,-50]", b"180]"),
        (b"180,-50]", b"180,2041]"),
        (b"180,-50]", b"180,+50]"),
        (b"unknown,", b""),
        (b"49,40]", b"49]"),
        (b"m-id-[", b"m-id-[x,"),
    ],
)
def test_bad_identities(peer: Start, change: tuple[bytes, bytes]) -> None:
    assert refused(lambda: Board(peer(polite({b"id": ID.replace(*change)})), timeout_s=1))


def test_lost_run_records(peer: Start) -> None:
    run = b"m-run-[%d,2,1,1,1,1,0,0,0,0]\r\n"
    with Board(peer(polite({b"runs": run % 0 + run % 2 + b"m-ready\r\n"}))) as board:
        assert "record 1 was lost" in refused(lambda: board.runs(3))
    with Board(peer(polite({b"runs": run % 0 + b"m-ready\r\n"}))) as board:
        assert "1 records came, 3 were asked for" in refused(lambda: board.runs(3))


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"", "got none"),
        (b"m-rate-[500,1,2]\r\n", "got rate"),
        (b"m-detector-[2,8,25,75,180]\r\n", "wants 6 fields, got 5"),
        (b"m-detector-[2,8,25,75,180,1]\r\nm-rate-[500,1]\r\n", "wants 3 fields, got 2"),
        (b"m-detector-[2,8,25,75,180,1]\r\nm-rate-[500,1,x]\r\n", "'x' is no number"),
        (b"m-detector-[2,8,25,75,180,1]\r\n" + 2 * b"m-rate-[500,1,2]\r\n", "rising"),
        (b"m-detector-[2,8,25,75,180,1]\r\nm-heard-[1]\r\n", "got detector, heard"),
        (b"m-detector-[2,8,25,75,180,2]\r\n", "it has (180, 2)"),
        (b"e-[no]\r\n", "answers detector 180 1% with: no"),
    ],
)
def test_bad_detectors(peer: Start, reply: bytes, says: str) -> None:
    with Board(peer(polite({b"detector": reply + b"m-ready\r\n"})), timeout_s=1) as board:
        assert says in refused(lambda: board.set_thresholds([180, 1]))
        assert board.identity.detector is not None and board.identity.detector.thresholds == (180, -50)


@pytest.mark.parametrize(
    ("command", "record", "call"),
    [
        ("memory", b"m-memory-[" + b"1," * 50 + b"1]\r\n", lambda board: board.memory()),
        ("layers", b"m-layer-[%d,conv,10,0123abcd]\r\n", lambda board: board.layers()),
        ("runs", b"m-run-[%d,2,1,1,1,1,0,0,0,0]\r\n", lambda board: board.runs(50)),
        ("infer", b"m-lap-us-1\r\n", lambda board: board.infer()),
        ("pcm", b"m-load-done\r\n", lambda board: board.load_pcm(np.zeros(400, np.int16))),
        ("detector", b"m-rate-[" + b"1," * 4000 + b"1]\r\n", lambda board: board.detector()),
        ("memory", b"e-[broken]\r\n", lambda board: board.memory()),
    ],
)
def test_a_reply_without_end_is_cut(peer: Start, command: str, record: bytes, call: Callable[[Board], object]) -> None:
    count = max(MOST_LINES + 100, MOST_BYTES // len(record) + 100)
    block = b"".join(record % n if b"%d" in record else record for n in range(count))  # and no m-ready
    with Board(peer(polite({command.encode(): block}))) as board:
        said = refused(lambda: call(board))
    assert (f"the reply to {command}" in said and "does not end" in said) or "with: broken" in said


def test_listening_that_does_not_end_is_cut(peer: Start) -> None:
    heard = b"m-heard-[0,50,1,1,1,0,0,0,00017f80,-1,0]\r\n"
    with Board(peer(polite({b"listen": b"m-ready\r\n" + 9 * heard}))) as board:
        records = board.listen(3)
        assert len([next(records) for _ in range(3)]) == 3
        assert "listening does not end" in refused(lambda: next(records))


def pcm(*steps: bytes) -> bytes:
    """Lines of m-pcm: INDEX,LOST of 320 samples of 7."""
    return b"".join(b"m-pcm-[%s,%s]\r\n" % (step, base64.b64encode(640 * b"\x07")) for step in steps)


CRC = b"%08x" % zlib.crc32(1280 * b"\x07")  # of two steps


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (pcm(b"0,0", b"2,0"), "step 2 came for step 1"),
        (pcm(b"0,0") + b"m-pcm-[1,0,AAAA]\r\n", "not base64 of 320 samples"),
        (pcm(b"0,0") + b"m-pcm-[1,0,A*AA]\r\n", "not base64 of 320 samples"),
        (pcm(b"0,0") + b"m-recorded-[2,0,%s]\r\n" % CRC, "1 of 2 steps came"),
        (pcm(b"0,0", b"1,0") + b"m-recorded-[2,0,00000000]\r\n", "2 of 2 steps came, or others"),
        (pcm(b"0,0", b"1,0", b"2,0"), "step 2 came for step 2"),
        (pcm(b"0,0") + b"m-heard-[1]\r\n", "unexpected"),
    ],
)
def test_sound_that_was_lost_or_damaged_is_said(peer: Start, reply: bytes, says: str) -> None:
    with Board(peer(polite({b"record": b"m-ready\r\n" + reply}))) as board:
        assert says in refused(lambda: list(board.record(2)))
    with Board(peer(polite({}))) as board:
        assert "flash the firmware of this version" in refused(lambda: next(board.record()))


def test_samples_that_a_board_lost_are_missing_behind_what_it_kept(peer: Start) -> None:
    steps = pcm(*(b"%d,%d" % (number, 500 * (number > 2)) for number in range(40)))
    end = b"m-recorded-[40,500,%08x]\r\n" % zlib.crc32(40 * 640 * b"\x07")
    with Board(peer(polite({b"record": b"m-ready\r\n" + steps + end}))) as board:
        doubtful = [lost for _, lost in board.record(40)]
    assert doubtful == [False] * 3 + [True] * 26 + [False] * 11  # 8192 samples and the step they end in


def test_thresholds_sent_at_the_start_and_the_end_of_listening_are_those_of_the_board(peer: Start) -> None:
    heard = b"m-heard-[0,50,1,1,1,0,0,0,00017f80,-1,0]\r\n"
    first, last = (b"m-detector-[2,8,25,75,%d,%d]\r\nm-ready\r\n" % (one, one) for one in (11, 22))
    script: dict[bytes, bytes | None] = {
        b"listen": first + b"m-ready\r\n" + heard,
        b"stop": last + heard + b"m-listened-[2,0]\r\nm-ready\r\n",
        b"detector": ID.split(b"\r\n")[5] + b"\r\nm-ready\r\n",
    }
    answer, started = polite(script), list[bool]()

    def late(command: bytes) -> bytes | None:  # before it has listened, stop ends nothing
        started.append(command.startswith(b"listen"))
        return answer(command) if any(started) or command != b"stop" else b"m-ready\r\n"

    with Board(peer(late)) as board:
        records = board.listen()
        next(records)
        assert board.identity.detector and board.identity.detector.thresholds == (11, 11)
        records.close()
        assert board.identity.detector.thresholds == (22, 22)
        assert board.detector().thresholds == (180, -50), "the next reply is the next command's"


@pytest.mark.parametrize("command", ["memory", "runs"])
def test_a_reply_that_drips_is_cut(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Every line comes in time, but the reply as a whole does not end, or is much slower than its first record."""
    monkeypatch.setattr("host.link.wire.MOST_TIMEOUTS", 2)
    monkeypatch.setattr("host.link.wire.SLOWER", 1)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        line, _ = server.accept()
        base, waiting = polite({b"memory": b"", b"runs": b""}), b""
        with suppress(OSError):
            while chunk := line.recv(4096):
                waiting += chunk
                while b"%" in waiting:
                    asked, _, waiting = waiting.partition(b"%")
                    line.sendall(base(asked) or b"")
                    for number in range(100_000 if asked.split()[0] in (b"memory", b"runs") else 0):
                        line.sendall(
                            b"m-memory-[1,2,3,4]\r\n" if asked == b"memory" else b"m-run-[%d,%s]\r\n" % (number, RUN)
                        )
                        time.sleep(0.1 if asked == b"memory" else 0.4)

    threading.Thread(target=serve, daemon=True).start()
    with server, Board(f"socket://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.9) as board:
        began = time.monotonic()
        says = refused(board.memory if command == "memory" else lambda: board.runs(60))
        assert f"the reply to {command}" in says and "does not end" in says
        assert time.monotonic() - began < 15, "60 records of 0.9 s would take a minute"


def test_what_waits_in_a_socket_is_read_in_a_few_calls(peer: Start) -> None:
    records = b"".join(b"m-run-[%d,%s]\r\n" % (number, RUN) for number in range(1000))
    with Board(peer(polite({b"runs": records + b"m-ready\r\n"}))) as board:
        read, calls = board._link.read, list[int]()

        def counted(size: int = 1) -> bytes:
            calls.append(size)
            return bytes(read(size))

        board._link.read = counted
        assert len(board.runs(1000)) == 1000
        assert len(calls) < len(records) / 50


def test_ctrl_c_at_a_frozen_board_does_not_wait_for_it(peer: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.link.client.STOP_S", 0.3)
    frozen = polite({b"listen": b"m-ready\r\n", b"stop": b""})
    started = list[bool]()

    def answer(command: bytes) -> bytes | None:
        started.append(command.startswith(b"listen"))
        return b"m-ready\r\n" if command == b"stop" and True not in started else frozen(command)

    board = Board(peer(answer))
    monkeypatch.setattr(board, "_read", board._read)
    listening = board.listen()
    whole, calls = Board._read, list[int]()

    def interrupted() -> bytes:
        calls.append(1)
        if True in started and len(calls) > 3:
            monkeypatch.setattr(board, "_read", lambda: whole(board))
            raise KeyboardInterrupt
        return whole(board)

    monkeypatch.setattr(board, "_read", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(listening)
    assert time.monotonic() - began < 10 and board.timeout_s == 20
    board.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
@pytest.mark.parametrize("where", ["write", "flush", "read"])
def test_a_port_that_dies_is_one_sentence_whatever_is_raised(
    peer: Start, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    import termios

    class Gone(Exception):
        """What a platform may raise."""

    with Board(peer(polite({}))) as board:
        for error in (termios.error(5, "Input/output error"), Gone(), TypeError("'NoneType'"), OSError(6, "gone")):

            def dies(*_: object, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(board._link, where, dies)
            assert "the board disappeared" in refused(board.memory)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
def test_a_pseudo_terminal_that_dies_is_one_sentence() -> None:
    for _ in range(5):
        controller, terminal = os.openpty()
        tty.setraw(terminal)
        name = os.ttyname(terminal)

        def serve(controller: int = controller, terminal: int = terminal) -> None:
            answers, waiting = polite({}), b""
            while True:
                waiting += os.read(controller, 4096)
                while b"%" in waiting:
                    command, _, waiting = waiting.partition(b"%")
                    if command == b"memory":
                        os.close(terminal)
                        os.close(controller)
                        return
                    os.write(controller, answers(command) or b"")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with Board(name, timeout_s=5) as board:
            said = refused(board.memory)
        thread.join(5)
        assert "the board disappeared" in said, said


def test_what_an_earlier_host_asked_for_is_dropped(peer: Start) -> None:
    """Two replies to name% and half a run lie on the line; only what follows the nonce counts."""
    stale = b"ady\r\nm-run-[7,2,1,1,1,1,0,0,0,0]\r\n" + NAME + b"m-memory-[9,9,9,9]\r\n" + NAME
    base = polite({b"": stale, b"memory": b"m-memory-[1,2,3,4]\r\nm-ready\r\n"})

    def answer(command: bytes) -> bytes | None:
        if command.startswith(b"sync"):
            return b"e-[Unknown command: " + command + b"]\r\nm-ready\r\n"
        return base(command)

    for _ in range(3):
        with Board(peer(answer)) as board:
            assert board.memory().flash == 1


def test_the_first_error_is_the_one_told(peer: Start) -> None:
    heard = b"m-heard-[0,50,1,1,1,0,0,0,00017f80,-1,0]\r\n"
    with Board(peer(polite({b"listen": b"m-ready\r\n" + heard, b"stop": b"m-ready\r\n"})), timeout_s=1) as board:
        records = board.listen()
        assert next(records).index == 0
        began = time.monotonic()
        assert "no answer to listening within 1 s" in refused(lambda: next(records))
        assert time.monotonic() - began < 2
    with Board(peer(polite({b"memory": b"e-[the flash is worn]\r\ne-[and more]\r\n"})), timeout_s=1) as board:
        assert "with: the flash is worn" in refused(board.memory)


def test_words_of_any_language_are_read_and_damaged_ones_refused(peer: Start) -> None:
    named = ID.replace(b"yes,stop", "grüezi,да".encode())
    with Board(peer(polite({b"id": named}))) as board:
        assert board.identity.labels == ("silence", "unknown", "grüezi", "да")
    for word in (b"gr\xfcezi,da", b"a\x1b[2J,b", "a\u202eb,c".encode(), b"\xc3,b"):
        broken = ID.replace(b"yes,stop", word)
        assert "no line of text" in refused(partial(Board, peer(polite({b"id": broken}))))


def test_load_that_never_completes(peer: Start) -> None:
    with Board(peer(polite({b"db": b"m-ready\r\n"}))) as board:
        assert "the board waits for more" in refused(lambda: board.load_input(bytes(8)))
        assert "wants 8 bytes, got 9" in refused(lambda: board.load_input(bytes(9)))


def test_infer_with_missing_times(peer: Start) -> None:
    with Board(peer(polite({b"infer": b"m-lap-us-1\r\nm-results-[0.1,0.2,0.3,0.4]\r\nm-ready\r\n"}))) as board:
        assert "1 times and 4 results" in refused(board.infer)


def test_features_with_a_wrong_crc(peer: Start) -> None:
    reply = b"m-slice-[0,1,00ff]\r\nm-features-[2,00000000,1,1]\r\nm-ready\r\n"
    with Board(peer(polite({b"features": reply}))) as board:
        assert "CRC differs" in refused(board.features)


def test_random_replies_fixed_seed(peer: Start) -> None:
    """Random damage to good replies: an answer or one sentence, within the time-out."""
    generator = random.Random(7)
    good = b"m-layer-[0,conv,10,0123abcd]\r\nm-layer-[1,dense,10,none]\r\nm-output-[00017f80]\r\nm-ready\r\n"

    def answer(_: bytes) -> bytes:
        reply = bytearray(good)
        for _time in range(generator.randrange(4)):
            where = generator.randrange(len(reply))
            reply[where : where + generator.randrange(3)] = generator.randbytes(generator.randrange(3))
        return bytes(reply) + b"\r\nm-ready\r\n"  # even a damaged end is followed by a whole one

    base = polite({})
    outcomes = set()
    with Board(peer(lambda command: answer(command) if command == b"layers" else base(command)), timeout_s=5) as board:
        for _ in range(200):
            try:
                board.layers()
                outcomes.add("answer")
            except HostError as error:
                outcomes.add("sentence")
                assert "\n" not in str(error)
    assert outcomes == {"answer", "sentence"}


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "nobody listens there" in refused(lambda: Board(f"socket://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("port", "says"),
    [
        ("/dev/no-such-port", "no such port"),
        ("nonsense://x", "cannot be opened"),
        ("socket://127.0.0.1:x", "cannot be opened; a network address is socket://HOST:PORT"),
        ("socket://127.0.0.1:99999", "PORT from 0 to 65535"),
        ("socket://127.0.0.1", "a network address is socket://HOST:PORT"),
        (__file__, "is no serial port"),
    ],
)
def test_wrong_ports(port: str, says: str) -> None:
    assert says in refused(lambda: Board(port))


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
def test_port_in_use() -> None:
    controller, terminal = os.openpty()
    name = os.ttyname(terminal)
    other = serial.Serial(name, exclusive=True)
    try:
        assert "in use by another program" in refused(lambda: Board(name))
    finally:
        other.close()
        os.close(controller)
        os.close(terminal)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
def test_port_is_opened_at_115200_never_1200(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Nano starts its bootloader when its port is opened at 1200 baud; every setting of the speed is watched."""
    speeds: list[int] = []
    original = serial.SerialBase.baudrate

    def watched(self: serial.SerialBase, value: int) -> None:
        speeds.append(value)
        original.fset(self, value)

    monkeypatch.setattr(serial.SerialBase, "baudrate", property(original.fget, watched))
    controller, terminal = os.openpty()
    try:
        assert "no answer to name%" in refused(lambda: Board(os.ttyname(terminal), timeout_s=0.2))
    finally:
        os.close(controller)
        os.close(terminal)
    assert speeds and set(speeds) == {115200}


def _usb(device: str, vid: int | None, pid: int | None) -> ListPortInfo:
    info = ListPortInfo(device)
    info.vid, info.pid = vid, pid
    return info


@pytest.mark.parametrize(
    ("ports", "found"),
    [
        ([("/dev/ttyS0", None, None), ("/dev/ttyACM0", 0x2341, 0x805A)], "/dev/ttyACM0"),
        ([("COM7", 0x2341, 0x025A)], "COM7"),
        ([("/dev/ttyACM0", 0x2341, 0x005A)], "bootloader"),
        ([("/dev/ttyACM0", 0x2341, 0x805A), ("/dev/ttyACM1", 0x2341, 0x805A)], "several boards"),
        ([("/dev/ttyUSB0", 0x0403, 0x6001)], "no Nano 33 BLE found"),
        ([], "no Nano 33 BLE found"),
    ],
)
def test_board_is_found_by_usb_id(
    monkeypatch: pytest.MonkeyPatch, ports: list[tuple[str, int, int]], found: str
) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: [_usb(*port) for port in ports])
    if found.startswith(("/", "COM")):
        assert find_port() == found
    else:
        assert found in refused(find_port)
