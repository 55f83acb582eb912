"""The host's commands around a real or virtual board; every module is loaded only by the command that needs it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from converter.commands import cli
from converter.errors import printable
from converter.target import SAMPLE_RATE_HZ
from host.emulator.errors import BoardError
from host.emulator.session.cli import emulate
from host.errors import HostError

if TYPE_CHECKING:
    from converter.arrays import Pcm
    from host.link.expected import Model
    from host.link.protocol import Heard
    from host.measure.trial import Attempt

app = cli.app(__doc__, HostError, BoardError)
app.command()(emulate)
console = Console()
PORT = "a serial port or socket://host:port, found by USB id if left out; a firmware.elf starts a virtual board"
OptionalPort = Annotated[str | None, typer.Argument(help=PORT)]
PortAndFile = Annotated[list[str], typer.Argument(metavar="[PORT] FILE", help=f"{PORT}; then the file")]
PortAndFiles = Annotated[list[str], typer.Argument(metavar="[PORT] WAVS...", help=f"{PORT}; then recordings")]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", help="the model on the board: run folder, .onnx or .tflite (default: the committed one it holds)"
    ),
]
FILE_SUFFIXES = (".wav", ".flac", ".npy", ".bin")


def split_port(words: list[str]) -> tuple[str | None, list[Path]]:
    """(port or None, files): the first word is a port unless it is, or is named like, a file.

    >>> split_port(["COM3", "yes.wav"]), split_port(["yes.wav"])
    (('COM3', [PosixPath('yes.wav')]), (None, [PosixPath('yes.wav')]))
    """
    first = Path(words[0])
    is_port = "://" in words[0] or first.suffix == ".elf" or (first / "build" / "emulator" / "firmware.elf").is_file()
    is_file = not is_port and (first.suffix.lower() in FILE_SUFFIXES or first.is_file() or first.is_dir())
    files = words if is_file else words[1:]
    if not files:
        raise HostError(f"{words[0]}: a port alone; name a file behind it")
    return None if is_file else words[0], [Path(word) for word in files]


def _one_file(words: list[str]) -> tuple[str | None, Path]:
    port, files = split_port(words)
    if len(files) != 1:
        raise HostError(f"one file at a time, got {len(files)}: {', '.join(map(str, files))}")
    return port, files[0]


@app.command()
def ports() -> None:
    """List the serial ports and which of them is a Nano 33 BLE."""
    from serial.tools import list_ports

    from host.link.wire import USB_BOOTLOADER, USB_SKETCH, USB_VENDOR

    for port in sorted(list_ports.comports()):
        kind = "Nano 33 BLE" if port.vid == USB_VENDOR and port.pid in USB_SKETCH else ""
        kind = "Nano 33 BLE, bootloader" if port.vid == USB_VENDOR and port.pid in USB_BOOTLOADER else kind
        console.print(f"{port.device}  {port.description}  {kind}")


@app.command()
def build(
    run: Annotated[
        Path, typer.Argument(help="a run folder or --out of a model, converted before; its image goes to RUN/build")
    ],
    tflm_source: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="sources of TensorFlow Lite Micro: the image gets that engine"),
    ] = None,
) -> None:
    """Build the firmware of a run or model for the virtual board; prints the ELF's path, which serves as a PORT, as RUN
    does."""
    from host.firmware_build import build_firmware, generated_in

    typer.echo(build_firmware(generated_in(run), run / "build", tflm_source))


@app.command("deploy", hidden=True)
@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="an exported run folder")],
    inputs: Annotated[int, typer.Option(min=1, max=256, help="test clips to run, of RUN/vectors.npz")] = 50,
    json_file: cli.JsonOption = None,
) -> None:
    """Convert, build and run a model on the virtual board, every layer compared with the host's; sizes, cycles,
    modelled energy."""
    from host.measure import model_figures

    with cli.progress() as progress:
        task = progress.add_task("test clips on the virtual board", total=inputs)
        found = model_figures.evaluate(run, inputs, lambda done: progress.update(task, completed=done))
    console.print(model_figures.summary(found), highlight=False)
    cli.write_json(json_file, found)
    if found["differences"]:
        count = f"{found['differences']} of {found['inputs']}"
        raise HostError(f"{run}: {count} inferences differ from the host's; `infer --layers` finds the layer")


@app.command()
def profile(
    port: OptionalPort = None,
    runs: Annotated[int, typer.Option(min=1, max=1_000_000)] = 1000,
    layers: Annotated[bool, typer.Option("--layers", help="cycles per layer too, with the board's roofline")] = False,
    wav: Annotated[Path | None, typer.Option(help="recording to work on (default: a made-up sound)")] = None,
    run: RunOption = None,
    plot: Annotated[
        Path | None, typer.Option(help="draw the roofline with every layer (.png)", callback=cli.output_file)
    ] = None,
    json_file: cli.JsonOption = None,
) -> None:
    """Stage times of the board: minimum, maximum, mean, number of runs; by millis() and by the cycle counter."""
    from converter.audio.wav import read_wav
    from host.link.client import connect
    from host.link.expected import model_of_board, require_same
    from host.measure import profile as profiler
    from host.measure import roofline

    pcm = read_wav(wav, min_samples=640) if wav else None
    with connect(port) as board, cli.progress() as progress:
        model = model_of_board(run, board.identity) if layers or run or plot else None
        if model is not None and (run or plot):
            require_same(board.identity, model)
        task = progress.add_task("runs", total=runs)
        result = profiler.profile(board, runs, pcm, lambda run: progress.update(task, completed=run.index + 1))
    known = model is not None and model.graph.model_id == result.identity.model_id
    points = (
        roofline.points(model.graph, result.layers, result.identity.clock_hz) if model is not None and known else {}
    )
    profiler.show(result, console, layers, points)
    if layers and not known:
        console.print("no roofline: name the board's model with --run")
    if plot:
        how = "modelled" if result.modelled else "measured"
        roofline.plot(
            points,
            f"{result.identity.model_name} on the {result.identity.board}, engine {result.identity.engine} ({how})",
            plot,
        )
    rows = [point.to_json() for point in points.values()]
    cli.write_json(json_file, {**result.to_json(), **({"roofline": rows} if rows else {})})


@app.command()
def monitor(
    port: Annotated[str | None, typer.Argument(metavar="[RUN|PORT]", help=f"a run folder, or {PORT}")] = None,
    wav: Annotated[Path | None, typer.Option(help="a recording for a virtual board's microphone")] = None,
    mic: Annotated[bool, typer.Option("--mic", help="this computer's microphone for a virtual board's")] = False,
    device: Annotated[str | None, typer.Option(help="for --mic: a microphone's number, or a part of its name")] = None,
    inferences: Annotated[int, typer.Option(min=0, help="stop after so many, 0: never")] = 0,
    run: RunOption = None,
) -> None:
    """Live view of a board listening to its microphone; Ctrl-C ends it."""
    from converter.audio.wav import read_wav
    from host.live.listening import open_listening
    from host.live.sources import playing, silence_before
    from host.measure import monitor as view

    virtual = port is not None and (port.endswith(".elf") or Path(port).is_dir())
    if wav is not None and mic:
        raise HostError("monitor: --wav and --mic are two sounds for one microphone; name one")
    if device is not None and not mic:
        raise HostError("monitor: --device names the microphone of --mic; add --mic")
    if virtual != (wav is not None or mic):
        raise HostError(
            f"{port}: a virtual board hears only what is played to it; add --wav FILE or --mic"
            if virtual
            else "--wav and --mic: for the microphone of a virtual board; name a run folder or a firmware.elf"
        )
    pcm = read_wav(wav) if wav else None
    with open_listening(port, run) as listening, contextlib.ExitStack() as stack:
        board = listening.board
        if virtual:
            stack.enter_context(playing(listening, pcm, device))
            if pcm is not None:
                before_s = silence_before(listening) / SAMPLE_RATE_HZ
                console.print(f"{wav} begins at {before_s:.2f} s, when the detector has settled", markup=False)
        else:
            listening.begin()
        with contextlib.closing(listening.steps(inferences)) as steps:
            records = (step.heard for step in steps)
            shown = view.monitor(board.identity, board.modelled, records, console, listening.model)
    ending = f"; {listening.different} differ from the host's" if listening.model else ""
    console.print(
        f"{shown.count} inferences, {len(shown.words)} words heard, {shown.lost} samples of audio lost{ending}"
    )
    if listening.model:
        listening.require_equal()


@app.command()
def live(
    target: Annotated[str, typer.Argument(metavar="RUN", help=f"a run folder, or {PORT}")],
    port: Annotated[
        str | None, typer.Option(help="a real board, which listens to its own microphone, in place of a virtual one")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="folder for takes (default: RUN/live)", callback=cli.output_folder)
    ] = None,
    http: Annotated[int, typer.Option(min=0, max=65535, help="the page's port on 127.0.0.1, 0: a free one")] = 0,
    run: RunOption = None,
    browser: Annotated[bool, typer.Option(help="open the page")] = True,
) -> None:
    """A page on 127.0.0.1: your browser's microphone into the virtual board, what it sees, hears and costs; Ctrl-C ends
    it."""
    from host.live.listening import open_listening
    from host.live.server import serve

    folder = save or (Path(target) if Path(target).is_dir() else Path("build")) / "live"
    with open_listening(target, run, port) as listening:
        ended = serve(listening, folder, http, browser, console)
    console.print(ended, highlight=False)
    listening.require_equal()


@app.command()
def tune(
    port: OptionalPort = None,
    false_accepts_per_hour: Annotated[
        float | None, typer.Option(min=0, help="a rate of the board's table", callback=cli.finite)
    ] = None,
    thresholds: Annotated[str | None, typer.Option(help="sums of evidence, one per word: 120,140")] = None,
) -> None:
    """Set how readily a running board hears a word, until its power-up; without options only show it."""
    from host.link.client import connect
    from host.measure import tune as tuning

    if false_accepts_per_hour is not None and thresholds is not None:
        raise HostError("tune: --false-accepts-per-hour and --thresholds are two ways to set the same; name one")
    numbers = tuning.parse(thresholds) if thresholds is not None else None
    with connect(port) as board:
        table = tuning.tune(board, false_accepts_per_hour, numbers)
        console.print(tuning.show(table, board.identity.labels), highlight=False)


@app.command()
def infer(
    words: PortAndFile,
    layers: Annotated[bool, typer.Option("--layers", help="compare every layer with --run")] = False,
    run: RunOption = None,
    json_file: cli.JsonOption = None,
) -> None:
    """One recording, or one int8 input (.npy, .bin), through the network on the board."""
    from host.link.client import connect
    from host.link.expected import model_of_board
    from host.measure import infer as inference

    port, file = _one_file(words)
    with connect(port) as board:
        model = model_of_board(run, board.identity) if layers or run else None
        answer = inference.infer(board, file, model)
        inference.show(answer, board.identity.clock_hz, console, layers)
    cli.write_json(json_file, inference.to_json(answer))
    if answer.differences:
        raise HostError(f"{file}: {inference.first_difference(answer)}")


@app.command()
def stream(
    words: PortAndFile,
    run: RunOption = None,
    compare: Annotated[bool, typer.Option(help="with the host's own decisions")] = True,
    json_file: cli.JsonOption = None,
) -> None:
    """Play a recording over the serial line into the board, as if it were its microphone."""
    from converter.audio.wav import read_wav
    from host.link.client import connect
    from host.link.expected import model_of_board, require_same
    from host.measure import stream as streaming

    port, file = _one_file(words)
    pcm = read_wav(file)
    with connect(port) as board, cli.progress() as progress:
        model = model_of_board(run, board.identity) if compare else None
        if model is not None:
            require_same(board.identity, model)
        task = progress.add_task("audio", total=None)

        def tell(heard: Heard) -> None:
            progress.update(task, completed=heard.index + 1)
            if heard.word is not None:
                seconds = streaming.seconds(heard, board.identity)
                progress.console.print(f"{seconds:8.2f} s  {board.identity.labels[heard.word]}", highlight=False)

        result = streaming.stream(board, pcm, model, tell)
    console.print(streaming.summary(result))
    cli.write_json(json_file, streaming.to_json(result))
    if result.different:
        count = f"{result.different} of {len(result.heard)}"
        raise HostError(f"{file}: {count} inferences differ from the host's; `infer --layers` finds the layer")


@app.command()
def trial(
    words: PortAndFiles,
    times: Annotated[int, typer.Option(min=1, max=100)] = 3,
    run: RunOption = None,
    json_file: cli.JsonOption = None,
    table: Annotated[bool, typer.Option(help="one row per attempt")] = True,
) -> None:
    """Play recordings into the board: expected word beside heard word, every score compared with the host's.

    Over the serial line, each recording alone; or, with a firmware.elf in the place of PORT, as one sound in the
    microphone of a virtual board.
    """
    from host.link.client import connect
    from host.link.expected import model_of_board
    from host.measure import trial as trials

    port, paths = split_port(words)
    files = trials.recordings(paths)
    virtual = port is not None and port.endswith(".elf")
    with connect(port) as board, cli.progress() as progress:
        model = model_of_board(run, board.identity)
        if not virtual:
            task = progress.add_task("recordings", total=times * len(files))
            attempts = trials.trial(board, files, model, times, lambda _: progress.advance(task))
    if port is not None and virtual:
        attempts = _virtual_trial(port, files * times, model)
    if table:
        console.print(trials.trial_table(attempts))
    console.print(trials.summary(attempts, trials.is_smoke_test(model.path)))
    cli.write_json(json_file, trials.to_json(attempts))
    if different := sum(attempt.different for attempt in attempts):
        raise HostError(
            f"trial: {different} inferences differ from the host's in score or decision; `infer --layers` finds "
            f"the layer"
        )


def _virtual_trial(elf: str, files: list[tuple[Path, Pcm]], model: Model) -> list[Attempt]:
    """All recordings in a virtual board's microphone, a second of silence round each or as much as the detector
    settles."""
    from host.link.client import connect
    from host.measure import trial as trials

    gap_samples = max(trials.TAIL_SAMPLES, trials.settle_samples(model))
    wavs = [file for file, _ in files]
    with connect(elf, wavs, gap_samples / SAMPLE_RATE_HZ) as board, cli.progress() as progress:
        task = progress.add_task("inferences", total=None)
        return trials.trial_by_microphone(board, files, model, gap_samples, lambda _: progress.advance(task))


@app.command()
def compare(
    run: Annotated[Path, typer.Argument(help="run folder, .onnx or .tflite")],
    port: Annotated[str | None, typer.Option(help="a board with this model")] = None,
    profile_json: Annotated[
        Path | None, typer.Option("--profile", help="the board's `profile --json` instead of a port")
    ] = None,
    runs: Annotated[int, typer.Option(min=1)] = 1000,
    json_file: cli.JsonOption = None,
) -> None:
    """Inference time on this machine's CPU and GPU beside the board's, with slowdown factors."""
    from host.measure import compare as comparison

    timings = comparison.compare(run, port, profile_json, runs, _torch_times)
    console.print(comparison.table(timings))
    cli.write_json(json_file, comparison.to_json(timings))


def _torch_times(run: Path, runs: int) -> list[tuple[str, str, tuple[float, ...]]]:
    from trainer.studies.torch_latency import time_run

    return time_run(run, runs)


@app.command()
def bench(
    json_file: Annotated[Path, typer.Option("--json", help="flat keys", callback=cli.output_file)] = Path(
        "build/bench.json"
    ),
    short: Annotated[bool, typer.Option("--short", help="neither listening nor speeds of this machine")] = False,
) -> None:
    """Cycles per stage beside the records, sizes, and speeds of this machine; fails when one has grown."""
    from host.measure import bench as benchmarks

    benchmarks.bench(console, json_file, _training_speed, short)


@app.command()
def calibrate(
    rows: Annotated[list[Path] | None, typer.Argument(metavar="[ROWS.json]...", help="measurements of images")] = None,
    board: Annotated[str | None, typer.Option(help="port of a real board, for its own stages; needs --image")] = None,
    image: Annotated[Path | None, typer.Option(help="the firmware.elf that was flashed onto it")] = None,
    json_file: cli.JsonOption = None,
) -> None:
    """Expected cycles of the virtual board beside those that were measured on real chips."""
    from host.measure import calibrate as calibration

    if (board is None) != (image is None):
        raise HostError("calibrate: --board PORT and --image ELF go together")
    with console.status("loops"):
        found = calibration.calibrate(rows or [])
    if board is not None and image is not None:
        with console.status("stages of the board, and of the virtual one"):
            found += calibration.board_rows(board, image)
    console.print(calibration.table(found))
    cli.write_json(json_file, calibration.to_json(found))


def _training_speed() -> float:
    from trainer.studies.training_speed import training_samples_per_second

    return training_samples_per_second()


@app.command()
def packed(
    out: Annotated[
        Path,
        typer.Option(
            help="folder for images and figures; what is there is not measured again", callback=cli.output_folder
        ),
    ] = Path("build/packed"),
) -> None:
    """What low-bit and sparse weights save on the board, as a Markdown table: flash, RAM, cycles of the model cut
    down."""
    from host.measure import packed_study as costs

    with console.status("") as status:
        table = costs.markdown(list(costs.points(out, status.update)))
    typer.echo(table, nl=False)


@app.command()
def costs(
    models: Annotated[list[Path] | None, typer.Argument(help="run folders and models: estimate beside outcome")] = None,
    alone: Annotated[bool, typer.Option("--alone", help="of models: their engines without a firmware, faster")] = False,
) -> None:
    """Measure what the kernels cost, for `converter inspect` (minutes); of models, how far its estimates are off."""
    from converter.aot.cycles import TABLE
    from converter.files import write_json
    from host.costs import kernel_costs, kernel_probes

    if models:
        with cli.progress() as progress:
            if alone:
                task = progress.add_task("models", total=len(models))
                rows = kernel_costs.compare_alone(models, lambda done: progress.update(task, completed=done))
            else:
                rows = list(progress.track(map(kernel_costs.compare, models), total=len(models), description="models"))
        console.print(kernel_costs.compared_table(rows), soft_wrap=True)
        return
    with cli.progress() as progress:
        task = progress.add_task("probes", total=kernel_probes.PROBES)
        write_json(TABLE, asdict(kernel_costs.measure(lambda done: progress.update(task, completed=done))))
    typer.echo(f"{TABLE}: written")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="run folder, or the folder of a sweep")],
    out: Annotated[
        Path | None, typer.Option(help="the HTML file (default: RUN/report.html)", callback=cli.output_file)
    ] = None,
    profile_json: Annotated[Path | None, typer.Option("--profile", help="of `profile --json`")] = None,
    trial_json: Annotated[Path | None, typer.Option("--trial", help="of `trial --json`")] = None,
    compare_json: Annotated[Path | None, typer.Option("--compare", help="of `compare --json`")] = None,
    checks_json: Annotated[Path | None, typer.Option("--checks", help="of `converter verify --json`")] = None,
    ladder_json: Annotated[Path | None, typer.Option("--ladder", hidden=True)] = None,  # the option's older name
) -> None:
    """One self-contained HTML file about a run (accuracy, stages, layers, sizes, trial, checks) or a sweep (charts,
    Pareto front)."""
    from host.report import run_page, summary, sweep_data, sweep_page

    results = {"--profile": profile_json, "--trial": trial_json, "--compare": compare_json}
    results["--checks"] = checks_json or ladder_json
    if not sweep_data.is_sweep(run):
        written = run_page.write_report(run, out, *results.values())
        for line in (str(written), *summary.summary(run, profile_json, trial_json, results["--checks"])):
            typer.echo(printable(line))
    elif given := [name for name, file in results.items() if file]:
        raise HostError(f"{given[0]}: belongs to a run, {run} is a sweep; leave it out")
    else:
        console.print(str(sweep_page.write_sweep_report(run, out)))


def main() -> None:
    """Run the command in sys.argv."""
    app()


if __name__ == "__main__":
    main()
