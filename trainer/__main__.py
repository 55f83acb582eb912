"""The trainer's commands; every module is loaded only by the command that needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from converter.commands import cli
from converter.errors import printable
from converter.files import alone
from converter.run_folder import ModelArtifact
from converter.spec import KwsSpec
from trainer.approx.command import approx
from trainer.board import BoardTools
from trainer.distributed.command import distributed
from trainer.errors import TrainerError
from trainer.roofline.command import roofline
from trainer.studies.command import study
from trainer.tvm.command import tvm

if TYPE_CHECKING:
    from converter.commands.microphone import Microphone
    from trainer.run.steps import Source
    from trainer.studies.images import ImageRun


def board_tools() -> BoardTools:
    """The host's functions around a board: the one place where the trainer and the host meet."""
    from host.measure.board_checks import BOARD_ACCESS, build, profile_image
    from host.measure.hop_layers import firmware_hop, hop_layers
    from host.measure.model_figures import evaluate
    from host.report.run_page import write_report

    return BoardTools(build, profile_image, evaluate, BOARD_ACCESS, hop_layers, firmware_hop, write_report)


app = cli.app(
    __doc__, TrainerError, interrupted="interrupted; start the same command again to continue", obj=board_tools
)
for command in (study, approx, roofline, tvm, distributed):
    app.command()(command)
Run = Annotated[Path, typer.Argument(help="a run folder")]
Data = Annotated[
    str, typer.Option(help="a folder shaped like Speech Commands, `speech_commands` (downloaded), or `synthetic`")
]
OtherData = Annotated[str | None, typer.Option("--data", help="recordings, if not those the run was trained on")]
Clips = Annotated[Path | None, typer.Option(help="use only the clips this list names")]
Bits = Annotated[int, typer.Option(help="width of weights and hidden activations, 2..8")]
Out = Annotated[Path, typer.Option(help="the run folder to make", callback=cli.output_folder)]
Wanted = Annotated[
    float,
    typer.Option(
        min=0, help="a run trained for streams: 0.1, 0.2, 0.5, 1, 2, 5 or 10, on speakers left out", callback=cli.finite
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="epochs, if not the usual number")]


@app.command()
def train(
    out: Out,
    data: Data = "synthetic",
    words: Annotated[str, typer.Option(help="words to hear, with commas between")] = "yes,no",
    model: Annotated[
        str | None, typer.Option(help="tinyconv (if nothing is said), tinyconv_stream, dscnn or tcn")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="a network of your own: my_net.py:Net, see docs/own_network.md; its file is run")
    ] = None,
    epochs: Epochs = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    clips: Clips = None,
    teacher: Annotated[Path | None, typer.Option(help="a trained run of the same words to learn from")] = None,
    negatives: Annotated[
        Path | None, typer.Option(help="what `negatives` made: train for streams, for few false accepts")
    ] = None,
    kernels: Annotated[
        str, typer.Option(help="of a tcn: frames of the first convolution, then of each stage, as 3,5,7,9")
    ] = "",
    widths: Annotated[str, typer.Option(help="of a tcn: channels behind each of the kernels, as 88,64,64,48")] = "",
    start: Annotated[
        Path | None, typer.Option(help="a trained run of other words, whose layers but the last to start from")
    ] = None,
) -> None:
    """Train a float network; an interrupted run continues when started again."""
    from trainer.run import steps as runs
    from trainer.run.own_network import read_network

    if network and (model or kernels or widths or start):
        raise TrainerError("--network: brings its own layers; leave --model, --kernels, --widths and --start out")
    spec = KwsSpec.of_words(_words(words))
    paths = (str(path.resolve()) if path else None for path in (clips, teacher, negatives, start))
    source = runs.Source(_absolute(data), *paths)
    own = read_network(network, spec, seed) if network else None
    model = own.about.name if own else model or "tinyconv"
    if own:
        typer.echo(f"{own.about.name}, expected on the board: {own.estimate(spec)}")
    settings = runs.default_settings(source, model, epochs, seed)
    chain = _numbers("--kernels", kernels), _numbers("--widths", widths)
    with alone(out), cli.progress() as progress:
        artifact = runs.train_run(out, source, spec, model, settings, progress, *chain, own)
    _say(artifact, "train", "float")


@app.command()
def keyword(
    context: typer.Context,
    word: Annotated[str, typer.Option(help="the word, or several with commas between")],
    takes: Annotated[Path, typer.Option(help="folder of takes, TAKES/<word>/...: of `record`, or of `audio --word`")],
    out: Out,
    negatives: Annotated[Path, typer.Option(help="what `negatives` makes; made where it is not there")] = Path(
        "build/negatives"
    ),
    start: Annotated[
        Path | None,
        typer.Option(help="a run whose layers to start from; default: reference/words, which knows six words"),
    ] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="start from nothing, to compare")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Your own word: from takes to firmware and report, in ten minutes; goes on where it was stopped."""
    from trainer.run.keyword import KNOWN_WORDS, Keyword, make_keyword, summary

    if from_scratch and start:
        raise TrainerError("--from-scratch and --start: a network starts from nothing or from a run; give one of them")
    asked = Keyword(_words(word), takes, negatives, out, None if from_scratch else start or KNOWN_WORDS, seed)
    with alone(out), cli.progress() as progress:
        seconds = make_keyword(asked, context.obj(), progress)
    typer.echo("\n".join(summary(asked, seconds)))


@app.command()
def qat(
    run: Run, bits: Bits = 8, epochs: Epochs = None, data: OtherData = None, false_accepts_per_hour: Wanted = 0.5
) -> None:
    """Fine-tune with fake quantization and choose the detector's thresholds: `quantize --method qat` within RUN."""
    _quantize(run, run, "qat", bits, "per-channel", "asymmetric", "mse", epochs, data, false_accepts_per_hour)


@app.command()
def quantize(
    run: Run,
    out: Out,
    method: Annotated[str, typer.Option(help="ptq (calibration only) or qat (fine-tuning)")] = "qat",
    bits: Bits = 8,
    weights: Annotated[
        str, typer.Option(help="scales of convolution weights: per-channel or per-tensor")
    ] = "per-channel",
    scheme: Annotated[
        str, typer.Option(help="symmetric, asymmetric (activations) or asymmetric-weights")
    ] = "asymmetric",
    calibration: Annotated[str, typer.Option(help="first step sizes: minmax, percentile or mse")] = "mse",
    epochs: Epochs = None,
    data: OtherData = None,
    false_accepts_per_hour: Wanted = 0.5,
) -> None:
    """Quantize weights and hidden activations to 2..8 bits; features and logits keep 8."""
    from trainer.network.quant_options import QuantOptions
    from trainer.studies.images import is_image_run, quantize_images

    if not is_image_run(run):
        _quantize(run, out, method, bits, weights, scheme, calibration, epochs, data, false_accepts_per_hour)
        return
    with alone(out), cli.progress() as progress:
        options = QuantOptions(bits, weights, scheme, calibration)
        made = quantize_images(run, out, method, options, epochs, Path(data) if data else None, progress)
    _say_pictures(made, "qat", f"{bits}-bit")


def _quantize(
    run: Path,
    out: Path,
    method: str,
    bits: int,
    weights: str,
    scheme: str,
    calibration: str,
    epochs: int | None,
    data: str | None,
    wanted: float,
) -> None:
    from trainer.network.quant_options import QuantOptions
    from trainer.run.quantize import quantize_run

    options = QuantOptions(bits, weights, scheme, calibration)
    with alone(out), cli.progress() as progress:
        artifact = quantize_run(run, out, method, options, epochs, _source(data), progress, wanted)
    _say(artifact, "qat", f"{bits}-bit")
    if "operating_point" in artifact.results:
        _say_operating_point(artifact)


@app.command()
def prune(
    run: Run,
    out: Out,
    kind: Annotated[str, typer.Option(help="structured (channels go) or unstructured (weights become zero)")],
    amount: Annotated[
        float, typer.Option(help="share of the channels or weights, between 0 and 1", callback=cli.finite)
    ],
    norm: Annotated[str, typer.Option(help="what ranks them: l1, l2 or linf")] = "l1",
    finetune: Annotated[
        int, typer.Option(min=0, help="epochs of fine-tuning, at each of three learning rates; validation chooses")
    ] = 0,
    rewind: Annotated[
        int | None, typer.Option(min=0, help="single weights: back to this epoch of RUN, and through the rest again")
    ] = None,
    data: OtherData = None,
) -> None:
    """Take channels out of a float network, or set weights to zero; quantize and export OUT next."""
    from trainer.run.prune import PruneOptions, prune_run
    from trainer.studies.images import is_image_run, prune_images

    options = PruneOptions(kind, amount, norm, finetune, rewind)
    with alone(out), cli.progress() as progress:
        if is_image_run(run):
            made = prune_images(run, out, options, Path(data) if data else None, progress)
            _say_pictures(made, "prune", f"{kind} {amount:g} pruned")
            return
        artifact = prune_run(run, out, options, _source(data), progress)
    _say(artifact, "prune", f"{kind} {amount:g} pruned")
    found = artifact.results["prune"]
    typer.echo(f"{found['parameters']} parameters, {found['nonzero']} of them not zero")
    if "tried" in found:
        every = ", ".join(f"{share} gave {100 * accuracy:.1f}" for share, accuracy in found["tried"].items())
        kept = f"{found['rate_share']:g} of the float learning rate" if found["rate_share"] else "no fine-tuning"
        typer.echo(f"kept by validation: {kept} (before {100 * found['before_finetune']:.1f} %; {every})")


@app.command()
def images(
    data: Annotated[Path, typer.Option(help="a folder with MNIST's idx files or CIFAR-10's binary files")],
    out: Out,
    model: Annotated[str, typer.Option(help="mnist_cnn or conv4")] = "mnist_cnn",
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train an image CNN with Adam; `prune` and `quantize` take the run."""
    from trainer.studies.images import ImageSettings, train_images

    with alone(out), cli.progress() as progress:
        made = train_images(out, data, model, ImageSettings(epochs=epochs, seed=seed), progress)
    _say_pictures(made, "train", model)


@app.command()
def minifloat(
    runs: Annotated[list[Path], typer.Argument(help="trained float runs")],
    formats: Annotated[str, typer.Option(help="formats with commas between, if not the usual ones")] = "",
    data: OtherData = None,
) -> None:
    """Accuracy with weights and activations as floats of 3 to 8 bits, alone or in blocks of a shared scale, beside
    integers as wide; a study, no engine runs them."""
    from trainer.studies.minifloat import FORMATS, SHARED, minifloat_study, table

    chosen = tuple(f.strip() for f in formats.split(",") if f.strip()) or (*FORMATS, *SHARED)
    with cli.progress() as progress:
        found = minifloat_study(runs, chosen, _source(data), progress)
    typer.echo(table(found), nl=False)


@app.command()
def export(run: Run, data: OtherData = None) -> None:
    """Write RUN/model.onnx with Q/DQ nodes and RUN/vectors.npz."""
    from trainer.run import steps as runs

    with alone(run), cli.progress() as progress:
        artifact = runs.export_run(run, _source(data), progress)
    typer.echo(f"{artifact.onnx}\n{artifact.vectors}")


@app.command()
def evaluate(
    run: Run,
    data: OtherData = None,
    negative: Annotated[
        list[Path] | None,
        typer.Option(help="speech without the words, to count false accepts on: made by `negatives`, or recordings"),
    ] = None,
    positive: Annotated[
        Path | None, typer.Option(help="the words' test clips, if not those of the data: shaped like Speech Commands")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="write every inference's evidence here", callback=cli.output_file)
    ] = None,
) -> None:
    """Accuracy per class of the float, fake-quantized and int8 network, from a reset and in a continuous stream; with
    --negative false accepts per hour against words missed."""
    from trainer.run import evaluate as evaluation
    from trainer.run.false_accepts import Listening

    if not negative and (positive or scores):
        raise TrainerError("evaluate: --positive and --scores say how to listen to --negative DIR; give that too")
    asked = Listening(tuple(negative), positive, scores) if negative else None
    with alone(run), cli.progress() as progress:
        result = evaluation.evaluate_run(run, _source(data), progress, asked)
    evaluation.show(ModelArtifact.load(run), result)


@app.command()
def select(
    runs: Annotated[list[Path], typer.Argument(help="exported runs that differ in their seed")],
    out: Annotated[Path, typer.Option(help="where the best on validation is copied to", callback=cli.output_folder)],
) -> None:
    """Keep the run that does best on validation; print mean and spread of all."""
    from trainer.run import evaluate as evaluation
    from trainer.run.steps import select_run

    with alone(out):
        best, every = select_run(runs, out)
    evaluation.show_runs(best, every)


@app.command()
def synthesize(
    out: Annotated[Path, typer.Option(help="the data folder to make", callback=cli.output_folder)],
    words: str = "yes,no",
    speakers: int = 260,
    others: Annotated[int, typer.Option(min=1, max=20, help="other words per speaker")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make a data folder of synthetic speech with espeak-ng."""
    from trainer.data.synthetic import SyntheticSettings
    from trainer.data.synthetic import synthesize as make

    chosen = _words(words)
    with alone(out), cli.progress() as progress:
        make(SyntheticSettings(chosen, speakers, others, seed=seed), out, progress)
    typer.echo(f"{out}")


@app.command()
def clips(
    run: Run,
    out: Annotated[Path, typer.Option(help="the folder to make: OUT/<label>/<name>.wav", callback=cli.output_folder)],
    per_class: Annotated[int, typer.Option(min=1)] = 3,
    data: OtherData = None,
) -> None:
    """Write test clips as WAV files for trials on a board: the first of every class in SHA-256 order of their names."""
    from trainer.run.clips import write_test_clips

    with cli.progress() as progress:
        files = write_test_clips(run, out, per_class, _source(data), progress)
    typer.echo(f"{out}: {len(files)} recordings")


@app.command()
def negatives(
    out: Annotated[Path, typer.Option(help="folder to make or to go on with", callback=cli.output_folder)] = Path(
        "build/negatives"
    ),
    recordings: Annotated[
        list[Path] | None, typer.Option(help="your own: a folder of one speaker's recordings")
    ] = None,
    packages: Annotated[bool, typer.Option(help="the sound inside Debian packages, and synthetic voices")] = True,
) -> None:
    """Sound without the words, to train on and to count false accepts on: 9 hours of speech, isolated words, music and
    synthetic voices (Debian packages are downloaded but not installed), and recordings of your own."""
    from trainer.data.negatives import SOURCES, make_negatives, table

    with alone(out), cli.progress() as progress:
        streams = make_negatives(out, SOURCES if packages else (), recordings or (), progress)
    Console().print(table(streams))


@app.command()
def download(
    out: Annotated[Path, typer.Option(help="data folder to make", callback=cli.output_folder)] = Path(
        "build/data/speech_commands_v0.02"
    ),
    keep: Annotated[bool, typer.Option(help="keep the archive")] = False,
) -> None:
    """Download Speech Commands v0.02 (2.4 GB), check it and unpack it; an interrupted download continues."""
    from trainer.data.download import SPEECH_COMMANDS, fetch

    with alone(out.absolute().parent), cli.progress() as progress:
        fetch(SPEECH_COMMANDS, out, progress, keep)
    typer.echo(f"{out}")


@app.command()
def features(
    recordings: Annotated[
        list[Path], typer.Argument(help="WAV or FLAC files, or a word's folder: its loudest and quietest clip")
    ],
    out: Annotated[Path, typer.Option(help="the picture to write", callback=cli.output_file)] = Path(
        "build/features.png"
    ),
) -> None:
    """Show what the network sees, and draw wave, spectrum, spectrogram, mel, MFCC and the deployed features side by
    side."""
    from trainer.studies.feature_pictures import plot_features, show_features

    plot_features(recordings, out)
    show_features(recordings)
    typer.echo(f"{out}")


Speaker = Annotated[str | None, typer.Option(help="who speaks; else `me`, or the names of the recordings' folders")]


@app.command()
def audio(
    recordings: Annotated[list[Path], typer.Argument(help="WAV or FLAC files (others by ffmpeg), or folders of them")],
    out: Annotated[
        Path,
        typer.Option(
            help="the folder to write 16 kHz mono 16 bit WAVs to; with --word the data folder",
            callback=cli.output_folder,
        ),
    ],
    word: Annotated[
        str | None, typer.Option(help="look for this word in them, and write each take of it to OUT/WORD")
    ] = None,
    speaker: Speaker = None,
) -> None:
    """Convert recordings of other rates, of more channels or of other samples to what the board hears; with --word cut
    them into takes of a second."""
    from trainer.data.recordings import convert_recordings

    if word is not None:
        _import_takes(recordings, out, word, speaker)
        return
    if speaker is not None:
        raise TrainerError("--speaker: names the takes of a word, got no --word; give one, or leave it out")
    done, faults = 0, list[str]()
    for made in convert_recordings(recordings, out):
        if isinstance(made, Path):
            done += 1
            typer.echo(printable(str(made)))
        else:
            faults.append(made)
    _end_with(faults, done, "were not converted")


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="the data folder that takes belong to", callback=cli.output_folder)],
    word: Annotated[str | None, typer.Option(help="the word to record takes of, to OUT/WORD")] = None,
    speaker: Speaker = None,
    takes: Annotated[int, typer.Option(min=1, max=100_000, help="takes of the speaker, those there counted")] = 30,
    device: Annotated[str | None, typer.Option(help="a microphone's number, or a part of its name")] = None,
    port: Annotated[
        str | None,
        typer.Option(help="the serial port of a board whose own microphone is to be used, or socket://host:port"),
    ] = None,
    room: Annotated[
        float | None,
        typer.Option(min=0.2, max=600, help="minutes of room sound, to OUT/_background_noise_", callback=cli.finite),
    ] = None,
) -> None:
    """Record takes of a word, or the sound of the room, by this computer's microphone or a board's; started again it
    goes on."""
    from converter.commands.microphone import microphone, play
    from trainer.data.dataset import NOISE_FOLDER
    from trainer.data.recorder import Recorder, keyboard
    from trainer.data.takes import takes_of, usable_speaker, word_folder

    if word is None and room is None:
        raise TrainerError("record: needs something to record, got none; give --word WORD or --room MINUTES")
    if device is not None and port is not None:
        raise TrainerError("record: --device and --port are two microphones; name one")
    who, console = usable_speaker(speaker or "me", "--speaker"), Console()
    folder = word_folder(out, word) if word is not None else None
    with contextlib.ExitStack() as held:
        for place in (folder, out / NOISE_FOLDER if room is not None else None):
            if place is not None:
                held.enter_context(alone(place))
        source = held.enter_context(microphone(device) if port is None else _board_microphone(port))
        recorder = Recorder(source, held.enter_context(keyboard()), play, console)
        typer.echo(printable(f"{source.name}: {source.rate_hz} Hz"))
        if room is not None:
            recorder.room(out, room)
        if folder:
            recorder.takes(folder, who, takes)
            typer.echo(
                printable(f"{folder}: {len(takes_of(folder, who))} takes by {who}, {len(takes_of(folder))} in all")
            )


@contextlib.contextmanager
def _board_microphone(port: str) -> Iterator[Microphone]:
    """What a board hears; raises TrainerError, also for what the host says of it in the block."""
    from host.errors import HostError
    from host.link.sound import board_microphone

    try:
        with board_microphone(port) as source:
            yield source
    except HostError as error:
        raise TrainerError(f"--port {error}") from None


def _end_with(faults: list[str], done: int, what: str) -> None:
    if done + len(faults) == 1 and faults:
        raise TrainerError(faults[0])
    for fault in faults:
        typer.echo(f"error: {printable(fault)}", err=True)
    if faults:
        raise TrainerError(f"{len(faults)} of {done + len(faults)} {what}; mend or remove them")


def _import_takes(recordings: list[Path], out: Path, word: str, speaker: str | None) -> None:
    from trainer.data.takes import import_takes, takes_of, word_folder

    folder = word_folder(out, word)
    done, there, skipped, faults = 0, 0, 0, list[str]()
    with alone(folder):
        for one in import_takes(recordings, out, word, speaker):
            there, skipped = there + one.there, skipped + len(one.skipped)
            for path, take in one.written:
                typer.echo(printable(f"{path}  {take.seconds:.2f} s at {take.at_s:.2f} s of {one.recording}"))
            for take in one.skipped:
                typer.echo(printable(f"skipped: {one.recording} at {take.at_s:.2f} s: {take.fault}"), err=True)
            if one.fault:
                faults.append(one.fault)
            else:
                done += 1
        typer.echo(printable(f"{folder}: {len(takes_of(folder))} takes; {there} were there, {skipped} sounds skipped"))
    _end_with(faults, done, "recordings gave no take")


@app.command()
def sweep(
    out: Annotated[
        Path,
        typer.Option(help="the sweep's folder; started again, it goes on where it was", callback=cli.output_folder),
    ],
    data: Data = "synthetic",
    words: Annotated[str, typer.Option(help="words to hear, with commas between")] = "yes,stop",
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="axes as 'bits=2,4,8 method=ptq,qat seed=0' (also model, kind, amount, norm, finetune); again for "
            "more points"
        ),
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="a trained run of the same words to learn from")] = None,
    epochs: Epochs = None,
    ray: Annotated[str | None, typer.Option(help="a Ray cluster's address, or local; otherwise the cores here")] = None,
    again: Annotated[
        str | None, typer.Option(help="make finished points again: board (convert, build, run) or all")
    ] = None,
) -> None:
    """Train, compress, build and run every point of a grid on the virtual board; finished points are kept."""
    from trainer.run.steps import Source
    from trainer.sweep import run as sweeping
    from trainer.sweep.grid import DEFAULT_GRID, parse

    source = Source(_absolute(data), None, str(teacher.resolve()) if teacher else None)
    heard = list(_words(words))
    job = sweeping.make_job(out, source, heard, epochs, board_tools())
    with alone(out), cli.progress() as progress:
        results = sweeping.sweep(job, parse(grid or DEFAULT_GRID), again, ray, progress)
    Console().print(sweeping.table(results))
    if any("error" in result for result in results):
        raise SystemExit(1)


@app.command()
def search(
    out: Annotated[
        Path, typer.Option(help="the search's folder; the same command goes on there", callback=cli.output_folder)
    ],
    data: Data,
    negatives: Annotated[Path, typer.Option(help="what `negatives` made")],
    words: Annotated[str, typer.Option(help="words to hear, with commas between")] = "yes,stop",
    hop_ms: Annotated[
        float, typer.Option(help="at most so long a hop of 40 ms may take the network", callback=cli.finite)
    ] = 2.0,
    flash_kb: Annotated[float, typer.Option(help="of the engine with its model", callback=cli.finite)] = 64.0,
    ram_kb: Annotated[float, typer.Option(help="of the engine with its model", callback=cli.finite)] = 24.0,
    strategy: Annotated[str, typer.Option(help="evolution, random, or mac: evolution by multiply-adds")] = "evolution",
    candidates: Annotated[int, typer.Option(min=1, help="first, short trainings")] = 96,
    scenes: Annotated[int | None, typer.Option(min=100, help="scenes, if not as many as `train` makes")] = None,
    ray: Annotated[str | None, typer.Option(help="a Ray cluster's address, or local; otherwise the cores here")] = None,
) -> None:
    """Search chains of time convolutions that miss fewest words within the board's limits; see docs/search.md."""
    from trainer.run.steps import Source
    from trainer.search import run as searching
    from trainer.search.candidate import SearchJob

    source = Source(_absolute(data), None, None, str(negatives.resolve()))
    heard = _words(words)
    job = SearchJob(out.resolve(), Path.cwd(), source, heard, scenes, board_tools())
    plan, limits = searching.Plan(strategy, candidates), searching.Limits(hop_ms, flash_kb, ram_kb)
    with alone(out), cli.progress() as progress:
        every = searching.search(job, plan, limits, ray, progress)
    Console().print(searching.show(every))
    best = searching.front(every["found"][strategy]["candidates"], limits)
    typer.echo(f"train the best: {best['train']}" if best else "none is within the limits on the board")


def _say_operating_point(artifact: ModelArtifact) -> None:
    found = artifact.results["operating_point"]
    hours = ", ".join(f"{row['source']} {row['hours']:.2f}" for row in found["left_out"])
    typer.echo(f"thresholds from {found['hours']:.2f} hours of speakers each left out once ({hours}):")
    for rate, row in artifact.detector.rates:
        chosen = " (chosen)" if row == artifact.detector.thresholds else ""
        missed = 100 * found["miss_rate_at"][str(rate)]
        typer.echo(
            f"  {rate:g} false accepts an hour: {missed:.1f} % of {found['validation_words']} words missed{chosen}"
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise TrainerError(f"{option}: must be whole numbers with commas between, as 3,5,7,9, got {text!r}") from None


def _absolute(data: str) -> str:
    return data if data in ("synthetic", "speech_commands") else str(Path(data).resolve())


def _source(data: str | None) -> Source | None:
    from trainer.run.steps import Source

    return Source(_absolute(data)) if data else None


def _say(artifact: ModelArtifact, stage: str, title: str) -> None:
    found = artifact.results[stage]
    what = "smoke test on synthetic speech, validation" if artifact.is_smoke_test else "validation accuracy"
    typer.echo(
        f"{artifact.path}: {title} {what} {100 * found['validation_accuracy']:.1f} % (n = {found['validation_n']})"
    )


def _say_pictures(run: ImageRun, stage: str, title: str) -> None:
    found = run.results[stage]
    typer.echo(
        f"{run.path}: {title} accuracy on the test pictures {found['accuracy']:.2f} % (n = {found['n']}); "
        f"{run.results['parameters']} parameters, {run.results['nonzero']} of them not zero; {run.title}"
    )


def main() -> None:
    """Run the command in sys.argv."""
    app()


if __name__ == "__main__":
    main()
