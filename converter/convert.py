"""A model in any form -> the files that the firmware is built from, all of them or none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from converter.aot.emit import render_aot
from converter.aot.model_header import render_kws_header, render_tflm_header
from converter.audio.tables import render as render_frontend
from converter.errors import ConvertError, printable
from converter.files import write_set
from converter.formats.original import Original
from converter.graph import Graph
from converter.keyword_models.keywords import listening, read_features
from converter.keyword_models.wake_word import WakeWord, read_wake_word, with_spec
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec, KwsSpec
from converter.target import NRF52840
from converter.tflite.c_array import render_c_array
from converter.tflite.reader import trace_tflite
from converter.tflite.tflm_only import TflmOnly, read_tflm_only, require_fit
from converter.tflite.writer import write_tflite

FRONTEND_TABLES = "frontend_tables.h"
HEADER = "kws_model.h"
ENGINE = ("model_aot.c", "model_aot.h", "model_tvm.S")  # of the compiled engine, and with TVM


class RefusedTfliteError(ConvertError):
    """A .tflite that the compiled engine refuses; why: all that stands in the way."""

    def __init__(self, message: str, why: str) -> None:
        """As ConvertError."""
        super().__init__(message)
        self.why = why


@dataclass(frozen=True, eq=False)
class Source:
    """A graph with what its file, run folder or manifest says besides."""

    graph: Graph
    name: str
    artifact: ModelArtifact | None = None
    original: Original | None = None
    word: WakeWord | None = None
    hop: int | None = None  # frames, where the caller names them

    @property
    def detector(self) -> DetectorSpec | None:
        """None for a single model."""
        if self.word:
            return self.word.detector(self.graph)
        return self.artifact.detector if self.artifact else None

    @property
    def hop_frames(self) -> int | None:
        """Frames between two inferences while listening; None without a front end."""
        return self.listening.hop_frames if self.listening else None

    @property
    def listening(self) -> DetectorSpec | None:
        """The detector, for a model without one the untuned; None without a front end. A model that keeps state hears
        each frame once."""
        if not self.graph.spec_json:
            return None
        spec = KwsSpec.from_json(self.graph.spec_json)
        untuned = DetectorSpec.untuned(len(spec.words))
        hop_frames = spec.features.frames if self.graph.variables else self.hop or untuned.hop_frames
        return self.detector or replace(untuned, hop_frames=hop_frames)

    @property
    def spec_id(self) -> str:
        """12 hex digits, or "none" without a spec."""
        return KwsSpec.from_json(self.graph.spec_json).spec_id if self.graph.spec_json else "none"


def load_any(path: Path) -> Source | TflmOnly:
    """As load; a .tflite that the compiled engine refuses is read for TensorFlow Lite Micro alone."""
    path = _model_in(path)
    try:
        return load(path)
    except RefusedTfliteError as refused:
        try:
            return read_tflm_only(printable(path.stem), path.read_bytes(), refused.why)
        except ConvertError as error:
            raise ConvertError(f"{refused}; it is not for TensorFlow Lite Micro either: {error}") from None


def _model_in(path: Path) -> Path:
    """The path, of a folder that `convert` wrote a single model into its model.tflite."""
    converted = (path / HEADER).is_file() and not (path / "artifact.json").exists()
    return path / "model.tflite" if converted else path


def load(path: Path) -> Source:
    """A run folder (its model.onnx), a .onnx, a .tflite or a microWakeWord .json; raises ConvertError or
    ArtifactError."""
    path = _model_in(path)
    if path.is_dir():
        return _load_run(ModelArtifact.load(path))
    if not path.is_file():
        raise ConvertError(
            f"{path}: no such run folder or model; give a run folder, a .onnx, a .tflite or a wake word's .json"
        )
    if path.suffix == ".json":
        word = read_wake_word(path)
        graph, original = _read(word.model)
        return Source(with_spec(graph, word), path.stem, original=original, word=word)
    graph, original = _read(path)
    return Source(graph, path.stem, original=original)


def with_words(source: Source, words: tuple[str, ...], features: str, hop: int | None) -> Source:
    """A single model of others that is to listen: keywords.listening, an inference every `hop` frames."""
    if source.artifact or source.word:
        raise ConvertError(f"{source.name}: says its own words and features; leave --words out")
    return replace(source, graph=listening(source.graph, words, read_features(features)), hop=hop)


def _load_run(artifact: ModelArtifact) -> Source:
    if not artifact.onnx.is_file():
        raise ConvertError(
            f"{artifact.path}: has no model.onnx; make it with `python -m trainer export {artifact.path}`"
        )
    graph, original = _read(artifact.onnx)
    source = Source(graph, artifact.model, artifact, original)
    if source.spec_id != artifact.spec.spec_id:
        raise ConvertError(
            f"{artifact.onnx}: has spec_id {source.spec_id}, the run folder {artifact.spec.spec_id}; export it again"
        )
    return source


def _read(path: Path) -> tuple[Graph, Original]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix == ".tflite":
        try:
            graph, places, ends = trace_tflite(data)
            return graph, Original(printable(path.name), "tflite", data, places, ends)
        except ConvertError as error:
            raise RefusedTfliteError(f"{path.name}: {error}", str(error)) from None
    try:
        if path.suffix == ".onnx":
            from converter.onnx_qdq.reader import trace_onnx  # importing onnx takes longer than all the rest

            graph, places, notes = trace_onnx(data)
            return graph, Original(printable(path.name), "onnx", data, places, notes=notes)
    except ConvertError as error:
        raise ConvertError(f"{path.name}: {error}") from None
    raise ConvertError(f"{path}: must end in .onnx or .tflite")


def render(source: Source, tflite_int4: bool = False, ram_budget: int | None = None) -> dict[str, bytes]:
    """The generated files by name; equal sources give equal bytes. tflite_int4: weights that fit take half a byte in
    the .tflite; ram_budget: as render_aot takes it. Raises ConvertError where the board's memory cannot hold the
    model."""
    graph = source.graph
    model = write_tflite(graph, tflite_int4)
    texts = {
        **render_c_array(model),
        **render_aot(graph, hop_frames=source.hop_frames, target=NRF52840, ram_budget=ram_budget),
        HEADER: render_kws_header(graph, source.name, source.listening, tflite_int4),
    }
    if graph.spec_json:
        texts[FRONTEND_TABLES] = render_frontend(KwsSpec.from_json(graph.spec_json).features)
    return {"model.tflite": model, **{name: text.encode() for name, text in sorted(texts.items())}}


def render_tflm(model: TflmOnly, arena_bytes: int) -> dict[str, bytes]:
    """The generated files of a model for TensorFlow Lite Micro alone. Raises ConvertError where the board's memory
    cannot hold it."""
    require_fit(model, arena_bytes)
    texts = {**render_c_array(model.data), HEADER: render_tflm_header(model, arena_bytes)}
    return {"model.tflite": model.data, **{name: text.encode() for name, text in sorted(texts.items())}}


def write_all(files: dict[str, bytes], out: Path) -> None:
    """Write every file or none, also when killed; an error leaves `out` as it was."""
    left = (FRONTEND_TABLES, *(() if ENGINE[0] in files else ENGINE))
    try:
        write_set(files, out, gone=[name for name in left if name not in files])
    except OSError as error:
        raise ConvertError(f"{out}: cannot be written ({error.strerror}); nothing was changed") from None
