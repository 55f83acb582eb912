"""The command `emulate`: a virtual board from the command line."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from converter.commands.cli import finite, output_file, write_json
from converter.target import SAMPLE_RATE_HZ
from host.emulator.cpu.diagnosis import last_instructions
from host.emulator.errors import BoardError
from host.emulator.report import Report

if TYPE_CHECKING:
    from host.emulator.board import VirtualBoard
    from host.emulator.session.ports import NoPort, PtyPort, TcpPort
    from host.emulator.session.timeline import Timeline


def microphone_pcm(wavs: list[Path], gap_seconds: float) -> Any:
    """int16 of all recordings one after another, with silence before each and after the last; None for no recording at
    all."""
    return recordings(wavs, gap_seconds)[0]


def recordings(wavs: list[Path], gap_seconds: float) -> tuple[Any, list[tuple[int, str]]]:
    """(microphone_pcm, the first sample and name of each recording)."""
    from converter.audio.wav import read_wav
    from converter.errors import ConvertError

    gap = np.zeros(round(gap_seconds * SAMPLE_RATE_HZ), np.int16)
    parts, sounds, at = [gap], [], len(gap)
    for wav in wavs:
        sounds.append((at, f"{wav.parent.name}/{wav.name}" if wav.parent.name else wav.name))
        try:
            parts += [read_wav(wav), gap]
        except ConvertError as error:
            raise BoardError(str(error)) from None
        at += len(parts[-2]) + len(gap)
    return (np.concatenate(parts) if wavs else None), sounds


def _until(text: str | None) -> tuple[float | None, bytes | None]:
    """Seconds of board time, or a text the board sends."""
    if text is None:
        return None, None
    try:
        seconds = float(text)
    except ValueError:
        return None, text.encode()
    if not 0 <= seconds < float("inf"):
        raise BoardError(f"--until {text}: must be seconds of board time from 0 on, or a text that the board sends")
    return seconds, None


def summary(report: Report) -> str:
    """Figures of a run, for people."""
    lines = [
        f"board time {report.seconds:.3f} s (modelled), CPU load {100 * report.cpu_load:.1f} %, "
        f"{report.instructions:,} instructions, {report.exceptions:,} exceptions",
        f"cycles awake: {report.cycles_awake:,} (modelled, {report.clock}; ideal {report.cycles_ideal:,}; bounds "
        f"{report.cycles_low:,} .. {report.cycles_high:,}); asleep {report.cycles_asleep:,}; the firmware left "
        f"the instruction cache {'on' if report.cache_on else 'off'}",
    ]
    if report.serial_overruns:
        lines.append(f"serial bytes lost because the firmware was too slow: {report.serial_overruns}")
    if report.resets:
        lines.append(f"resets: {report.resets}")
    lines += [f"a fault that the program's own handler came back from: {fault}" for fault in report.survived_faults[:3]]
    if report.unmodelled:
        lines.append("registers that nobody models: " + ", ".join(report.unmodelled))
    return "\n".join(lines)


def emulate(
    elf: Annotated[Path, typer.Argument(metavar="IMAGE", help="firmware.elf, .hex or .bin")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[MORE WAVS]", help="further recordings")] = None,
    wav: Annotated[
        list[Path] | None, typer.Option(help="16 kHz mono 16 bit recordings for the microphone; none: no microphone")
    ] = None,
    port: Annotated[
        str, typer.Option(help="pty, tcp:PORT (0: a free one), or none: start at once without a serial port")
    ] = "pty",
    gap: Annotated[
        float, typer.Option(min=0.0, max=60.0, help="seconds of silence round each recording", callback=finite)
    ] = 0.0,
    send: Annotated[
        str, typer.Option(help="text for the board's serial port once its program receives, such as listen%")
    ] = "",
    until: Annotated[
        str | None,
        typer.Option(help="stop after so many seconds of board time since power-up, or when the board sends this text"),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="write the whole board here at the end, for --resume; needs --port none", callback=output_file
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="go on where a board was saved: with its image, recordings and clock")
    ] = None,
    speed: Annotated[
        str, typer.Option(help="max: as fast as it goes while there is work; real: never faster than the board")
    ] = "max",
    clock: Annotated[
        str, typer.Option(help="cycles of the board's time: expected of the chip, or ideal: memory answers at once")
    ] = "expected",
    baud: Annotated[
        int,
        typer.Option(min=0, max=1_000_000, help="of the serial line whatever the program sets, as on USB; 0: its own"),
    ] = 0,
    live: Annotated[
        bool, typer.Option("--live", hidden=True, help="sound comes on stdin, as LiveSound reads it")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write figures and timeline here at the end", callback=output_file)
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="say the port, and what stopped the board, as JSON for a program")
    ] = False,
) -> None:
    """Run firmware on the virtual Nano 33 BLE. The board starts when somebody opens its serial port."""
    from host.emulator.board import VirtualBoard
    from host.emulator.cycles.timing import EXPECTED
    from host.emulator.peripherals.pdm import LiveSound
    from host.emulator.session.ports import open_port
    from host.emulator.session.timeline import Timeline
    from host.emulator.snapshot import load_board, save_board

    if speed not in ("max", "real"):
        raise BoardError(f"--speed {speed}: must be max or real")
    if clock not in ("expected", "ideal"):
        raise BoardError(f"--clock {clock}: must be expected or ideal")
    if save and port != "none":
        raise BoardError(f"--save with --port {port}: a host at a serial port cannot be saved; add --port none")
    if baud and (save or resume):
        raise BoardError("--baud: goes with no --save or --resume, whose lines are as fast as the program sets them")
    if live and (save or resume or wav or more):
        raise BoardError("--live: goes with no recordings, --save or --resume")
    pcm, sounds = (LiveSound(sys.stdin.buffer), []) if live else recordings([*(wav or []), *(more or [])], gap)
    board = VirtualBoard(elf, pcm, timing=EXPECTED if clock == "expected" else None)
    for uart in board.chip.uarts:
        uart.line_baud = baud
    if resume:
        load_board(board, resume)
    timeline = Timeline(board, sounds)
    board.send(send.encode())
    line = open_port(port)
    print(json.dumps({"serial_port": line.address}) if json_lines else f"serial port: {line.address}", flush=True)
    try:
        _run(board, line, timeline, until, speed == "real")
        if save:
            save_board(board, save)
    finally:
        line.close()
        report, core = board.report(), board.core
        print(summary(report), flush=True)
        print(
            f"stopped at {board.image.name_at(core.cpu.pc)}{' (asleep)' if core.sleeping else ''}; "
            f"last instructions: {last_instructions(core.cpu, core.counter)}",
            flush=True,
        )
        moments = [asdict(one) for one in timeline.moments]
        write_json(json_file, {**report.as_json(), "timeline": moments, "timeline_dropped": timeline.dropped})


def _run(
    board: VirtualBoard, line: TcpPort | PtyPort | NoPort, timeline: Timeline, until: str | None, real_time: bool
) -> None:
    """The board until its end or a signal, in view on a terminal; with neither port nor terminal its serial output is
    ours."""
    from rich.console import Console

    from host.emulator.session.session import Session
    from host.emulator.session.view import LiveView

    asked_to_stop: list[int] = []  # a flag: an exception out of a signal would be lost inside Unicorn's callbacks
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda which, _: asked_to_stop.append(which))
    console = Console()
    echo = line.address == "none" and not console.is_terminal

    def on_serial(data: bytes) -> None:
        timeline.serial(data)
        if echo:
            print(data.decode(errors="replace").replace("\r\n", "\n"), end="", flush=True)

    with LiveView(board, timeline, console) as view:

        def look() -> None:
            timeline.look()
            view.look()

        seconds, text = _until(until)
        left = None if seconds is None else max(0.0, seconds - board.seconds)
        Session(board, line, lambda: bool(asked_to_stop), real_time, on_serial, look).run(left, text)
