"""The model a board is checked against, and what the host itself makes of the same audio."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter import convert, reference
from converter.arrays import Pcm
from converter.audio.frontend import MicroFrontend, quantize_features
from converter.graph import Graph
from converter.spec import DetectorSpec, KwsSpec
from host.errors import HostError
from host.link.detector import Detector
from host.link.protocol import Heard, Identity

REFERENCE = Path(__file__).resolve().parents[2] / "reference"
COMMITTED = (REFERENCE, REFERENCE / "spotter")  # TinyConv, and what env nano33ble_aot flashes


@dataclass(frozen=True, eq=False)
class Model:
    """A network as the board should hold it. spec is None for a model made elsewhere, detector outside of run
    folders."""

    path: Path
    graph: Graph
    spec: KwsSpec | None
    detector: DetectorSpec | None = None

    @property
    def spec_id(self) -> str:
        """The id that the board must report, "none" for a model without a front end."""
        return self.spec.spec_id if self.spec else "none"


def load_model(path: Path = REFERENCE) -> Model:
    """A run folder, a .onnx or a .tflite; raises ConvertError or ArtifactError."""
    source = convert.load(path)
    spec = KwsSpec.from_json(source.graph.spec_json) if source.graph.spec_json else None
    return Model(path, source.graph, spec, source.detector)


def model_of_board(run: Path | None, board: Identity) -> Model:
    """The model named by --run; without one the committed model that the board holds, or the first of them where it
    holds another."""
    if run is not None:
        return load_model(run)
    models = [load_model(path) for path in COMMITTED]
    return next((model for model in models if model.graph.model_id == board.model_id), models[0])


def require_same(board: Identity, model: Model) -> None:
    """HostError when the board holds another model than the host compares it with."""
    if board.model_id != model.graph.model_id:
        raise HostError(
            f"the board holds model {board.model_id} ({board.model_name}), {model.path} is {model.graph.model_id}; "
            "flash that model or name the run folder of the board's with --run"
        )
    if board.spec_id != model.spec_id:
        raise HostError(
            f"the board answers for spec {board.spec_id}, {model.path} has {model.spec_id}; flash that model again"
        )


@dataclass(frozen=True)
class Decision:
    """What one inference of a stream gave: feature frames so far, int8 scores, the label heard now or None."""

    frame: int
    scores: tuple[int, ...]
    word: int | None

    @staticmethod
    def of(heard: Heard) -> Decision:
        """What a heard record says."""
        return Decision(heard.frame, heard.scores, heard.word)


def listen(model: Model, board: Identity, pcm: Pcm) -> list[Decision]:
    """The host's own decisions for audio heard from a fresh state, at the hop and averaging the board reports."""
    if model.spec is None or board.detector is None:
        raise HostError(f"{model.path}: a model without labels and front end cannot listen; use `infer`")
    features = model.spec.features
    whole_steps = len(pcm) // features.step_samples * features.step_samples
    frames = quantize_features(MicroFrontend(features).process(pcm[:whole_steps]), features)
    silence = np.full((features.frames, features.channels), features.zero_point, np.int8)
    padded = np.concatenate([silence, frames])
    ends = list(range(board.detector.hop_frames, len(frames) + 1, board.detector.hop_frames))
    if not ends:
        return []
    windows = np.stack([padded[end : end + features.frames] for end in ends])
    shape = model.graph.tensors[model.graph.input].shape
    scores = reference.run_batch(model.graph, windows.reshape(len(ends), *shape[1:])).reshape(len(ends), -1)
    detector = Detector(board.detector, len(model.spec.labels))
    rows = [tuple(int(value) for value in row) for row in scores]
    return [Decision(end, row, detector.step(row)) for end, row in zip(ends, rows, strict=True)]
