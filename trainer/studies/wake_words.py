"""Public wake words and our runs on the same negatives: OUT/wakewords.md and OUT/wakewords.json, see docs/wakewords.md.

The models are microWakeWord's, read from the installed package pymicro-wakeword and run by TensorFlow Lite Micro.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from converter.aot.stream_plan import plan_stream
from converter.arrays import Int16, Json, Uint16
from converter.audio.frontend import MicroFrontend
from converter.checked import Fields, Items, Real, Rule, Text, Whole, check, json_in
from converter.errors import ConvertError
from converter.files import write_atomic
from converter.formats.tflite import Table
from converter.graph import Graph
from converter.keyword_models.wake_word import least_sum, read_wake_word
from converter.onnx_qdq.reader import read_onnx
from converter.run_folder import ModelArtifact
from converter.size import model_size
from converter.spec import DetectorSpec, FeatureSpec
from converter.tflite import schema
from converter.tflite.interpreters import installed
from trainer.errors import TrainerError
from trainer.run import listening
from trainer.run.detector_tuning import decide
from trainer.run.false_accepts import CHUNK, negative_sources, rate_figures, source_figures

PACKAGE, VERSION = "pymicro-wakeword", "2.5.0"
NAMES = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
FEATURES = FeatureSpec(step_ms=10)  # as microWakeWord is trained on; int8 values are the model's own
REAL_PER_RAW = 0.0390625  # what pymicro-features multiplies the front end's uint16 by
WEIGHTED = {3: 0, 4: 3, 9: 0}  # CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED: the weights' axis of output channels
NOT_MEASURED = "not measured: no recordings of these words here"
_RATE: dict[str, Rule] = {"false_accepts": Whole(), "per_hour": Real(), "bound": Real()}
_HEARD = Fields(
    {
        "listening_streams": Fields(
            {
                "hours": Real(),
                "sources": Items(Fields({"name": Text(), "hours": Real(), **_RATE})),
                "conditions": Items(Fields({"name": Text(), "misses": Whole(), "words": Whole(1)})),
                "shipped": Fields(_RATE),
            }
        )
    }
)
MISSES = ("clean", "noise 10 dB")  # conditions in the table; wakewords.json has all


@dataclass(frozen=True)
class WakeWord:
    """A streaming model (uint8 probabilities of 1/256, one each time its input is full) and how it decides as shipped:
    the mean of the last `window` probabilities lies above the cutoff."""

    name: str
    model: bytes
    cutoff: float
    window: int

    @property
    def detector(self) -> DetectorSpec:
        """The same decision on sums of integers; as our detector does, it names a word once for each time it rises."""
        least, frames = least_sum(self.cutoff, self.window), self.input_frames
        return DetectorSpec((least,), frames, self.window, suppress_frames=0, settle_frames=(self.window - 1) * frames)

    @property
    def input_frames(self) -> int:
        """New feature frames to an inference."""
        graph = Table.root(self.model).tables(schema.Model.SUBGRAPHS)[0]
        taken = graph.tables(schema.SubGraph.TENSORS)[graph.numbers(schema.SubGraph.INPUTS, "i")[0]]
        return taken.numbers(schema.TensorTable.SHAPE, "i")[1]

    @property
    def counts(self) -> tuple[int, int]:
        """Weights and biases, and multiplications with a weight an inference."""
        model, parameters, macs = Table.root(self.model), 0, 0
        codes = [c.number(schema.OperatorCode.BUILTIN, "i", 0) for c in model.tables(schema.Model.OPERATOR_CODES)]
        graph = model.tables(schema.Model.SUBGRAPHS)[0]
        shapes = [t.numbers(schema.TensorTable.SHAPE, "i") for t in graph.tables(schema.SubGraph.TENSORS)]
        for operator in graph.tables(schema.SubGraph.OPERATORS):
            axis = WEIGHTED.get(codes[operator.number(schema.Operator.OPCODE_INDEX, "I", 0)])
            if axis is not None:
                _, weights, bias = (shapes[index] for index in operator.numbers(schema.Operator.INPUTS, "i"))
                made = shapes[operator.numbers(schema.Operator.OUTPUTS, "i")[0]]
                parameters += int(np.prod(weights) + np.prod(bias))
                macs += int(np.prod(made) * np.prod(weights)) // weights[axis]
        return parameters, macs


def load_wake_words() -> list[WakeWord]:
    """The models of the installed package; raises TrainerError."""
    found = installed(PACKAGE)
    if found != VERSION:
        raise TrainerError(
            f"study wakewords: needs {PACKAGE} {VERSION}, got {found}; pip install -e '.[wakewords]' (x86-64 Linux)"
        )
    folder = Path(str(importlib.metadata.distribution(PACKAGE).locate_file("pymicro_wakeword/models")))
    words = []
    for name in NAMES:
        about = read_wake_word(folder / f"{name}.json")
        words.append(WakeWord(name, about.model.read_bytes(), about.cutoff, about.average_count))
    return words


def probabilities(word: WakeWord, raw: Uint16, advance: Callable[[int], None] = lambda _: None) -> Int16:
    """int16 [inferences], each 256 times a probability, by TensorFlow Lite Micro from a reset; raw uint16 [frames, 40]
    of the front end. Raises TrainerError.

    The package's int8 wrap round where the front end gives more than 666; these stay at 127.
    """
    try:
        from tflite_micro import runtime
    except ImportError as error:
        raise TrainerError(f"study wakewords: needs tflite-micro ({error}); pip install -e . (x86-64 Linux)") from None
    interpreter = runtime.Interpreter.from_bytes(word.model)  # the state of a stream lives in it
    facts = interpreter.get_input_details(0)["quantization_parameters"]
    scale, zero_point = float(facts["scales"][0]), int(facts["zero_points"][0])
    of_raw = np.arange(1 << 16) * REAL_PER_RAW / scale + zero_point
    as_int8 = np.clip(np.round(of_raw), -128, 127).astype(np.int8)
    frames = word.input_frames
    inputs = as_int8[raw[: len(raw) // frames * frames].reshape(-1, 1, frames, raw.shape[1])]
    found = np.zeros(len(inputs), np.int16)
    for at, taken in enumerate(inputs):
        interpreter.set_input(taken, 0)
        interpreter.invoke()
        found[at] = interpreter.get_output(0)[0, 0]
        if at % CHUNK == CHUNK - 1:
            advance(CHUNK)
    advance(len(inputs) % CHUNK)
    return found


def decisions(word: WakeWord, outputs: Int16) -> list[int]:
    """The inferences at which the model names its word."""
    detector = word.detector
    sums = listening.summed(outputs[:, None], detector.average_count)
    return [index for index, _ in decide(sums, detector.thresholds, detector)]


def study(runs: Sequence[Path], folders: Sequence[Path], out: Path, progress: Progress) -> Path:
    """OUT/wakewords.md and OUT/wakewords.json; the path of the first. Raises TrainerError."""
    words = load_wake_words()
    artifacts = [ModelArtifact.load(run) for run in runs]
    labels = sorted({label for artifact in artifacts for label in artifact.spec.words})
    spoken_of = negative_sources(folders, labels, progress)
    ours = [_run_row(artifact, [(t.name, round(t.seconds / 3600, 3)) for t, _ in spoken_of]) for artifact in artifacts]
    inferences = sum(len(pcm) // (FEATURES.step_samples * word.input_frames) for word in words for _, pcm in spoken_of)
    task = progress.add_task("wake words: inferences", total=inferences)
    heard: dict[str, list[Json]] = {word.name: [] for word in words}
    for track, pcm in spoken_of:
        raw = MicroFrontend(FEATURES).process(pcm)
        for word in words:
            outputs = probabilities(word, raw, lambda count: progress.advance(task, count))
            heard[word.name].append(source_figures(track, _judged(word, outputs), ("", "", word.name)))
    progress.update(task, completed=inferences)
    hours = sum(track.seconds for track, _ in spoken_of) / 3600
    rows = [_word_row(word, heard[word.name], hours) for word in words] + ours
    engine = f"{PACKAGE} {VERSION}, TensorFlow Lite Micro (tflite-micro {installed('tflite-micro')})"
    speakers = len({track.speaker for track, _ in spoken_of})
    result = {"wake_words": engine, "speakers": speakers, "models": rows}
    write_atomic(out / "wakewords.json", (json.dumps(result, indent=1) + "\n").encode())
    write_atomic(out / "wakewords.md", _rendered(rows, speakers).encode())
    return out / "wakewords.md"


def _judged(word: WakeWord, outputs: Int16) -> listening.Judged:
    detector = word.detector
    timed = [(listening.inference_end(at, FEATURES, detector.hop_frames), 2) for at in decisions(word, outputs)]
    return listening.judge_words(timed, (), FEATURES.sample_rate_hz)


def _word_row(word: WakeWord, sources: list[Json], hours: float) -> Json:
    parameters, macs = word.counts
    return {
        "model": word.name,
        "parameters": parameters,
        "tflite_bytes": len(word.model),
        "macs_per_second": round(macs * 1000 / (word.input_frames * FEATURES.step_ms)),
        "decides": f"mean of {word.window} over {word.cutoff:g}",
        "hours": round(hours, 3),
        **rate_figures(sum(source["false_accepts"] for source in sources), hours),
        "sources": sources,
        "conditions": None,
    }


def _run_row(artifact: ModelArtifact, wanted: list[tuple[str, float]]) -> Json:
    """A run as `evaluate --negative` measured it, which must have been on these (source, hours)."""
    file = artifact.path / "evaluation.json"
    try:
        every = json_in(file)
        check("", every, _HEARD)
        found = every["listening_streams"]
        sources, conditions, shipped = found["sources"], found["conditions"], found["shipped"]
        heard = [(source["name"], source["hours"]) for source in sources]
    except (OSError, ValueError):
        raise TrainerError(
            f"{file}: holds no false accepts; run `python -m trainer evaluate {artifact.path} --negative DIR` first"
        ) from None
    if heard != wanted:
        raise TrainerError(
            f"{file}: heard {heard}, the wake words {wanted} (source, hours); evaluate it on the same folders"
        )
    detector, graph = artifact.detector, read_onnx(artifact.onnx.read_bytes())
    size = model_size(graph)
    hop_ms = detector.hop_frames * artifact.spec.features.step_ms
    limits = ", ".join(f"{w} {t:,}" for w, t in zip(artifact.spec.words, detector.thresholds, strict=True))
    return {
        "model": artifact.path.resolve().name + (" (smoke test)" if artifact.is_smoke_test else ""),
        "parameters": size.parameters,
        "tflite_bytes": size.tflite_bytes,
        "macs_per_second": round(_hop_macs(graph, detector.hop_frames) * 1000 / hop_ms),
        "decides": f"sum of {detector.average_count} from {limits}",
        "hours": found["hours"],
        **{key: shipped[key] for key in ("false_accepts", "per_hour", "bound")},
        "sources": sources,
        "conditions": conditions,
    }


def _hop_macs(graph: Graph, hop_frames: int) -> int:
    """Multiplications with a weight for all rows that a hop makes; of the whole window where the model cannot
    stream."""
    macs = [layer.cost(graph).macs for layer in graph.layers]
    try:
        plan = plan_stream(graph, hop_frames)
    except ConvertError:
        return sum(macs)
    for index, (layer, planned) in enumerate(zip(graph.layers, plan.layers, strict=True)):
        if planned.parts is not None:
            made = sum(part.out_rows[1] - part.out_rows[0] for part in planned.parts)
            macs[index] = macs[index] * made // graph.tensors[layer.output].shape[1]
    return sum(macs)


def _rendered(rows: list[Json], speakers: int) -> str:
    """The table in Markdown."""
    sources = [source["name"] for source in rows[0]["sources"]]
    heads = ("model", "parameters", ".tflite, bytes", "multiplications/s", "decides by", "false accepts", "per hour")
    columns = (*heads, "95 % bound", *sources, "words missed")
    lines = [
        f"{rows[0]['hours']:.2f} hours of {speakers} speakers or groups of speakers, the same for all.\n",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for row in rows:
        numbers = [f"{row[key]:,}" for key in ("parameters", "tflite_bytes", "macs_per_second")]
        rates = [f"{row['false_accepts']:,}", f"{row['per_hour']:,.2f}", f"{row['bound']:,.2f}"]
        each = [f"{source['false_accepts']:,}" for source in row["sources"]]
        cells = [row["model"], *numbers, row["decides"], *rates, *each, _missed(row["conditions"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _missed(conditions: list[Json] | None) -> str:
    if conditions is None:
        return NOT_MEASURED
    told = [(c["name"], c["misses"], c["words"]) for c in conditions if c["name"] in MISSES]
    return "; ".join(f"{name} {missed} of {n} ({100 * missed / n:.1f} %)" for name, missed, n in told)
