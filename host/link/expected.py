"""The model a board is checked against, and what the host itself makes of the same audio."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter import convert, reference
from converter.arrays import Int8, Pcm
from converter.audio.frontend import MicroFrontend
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


@dataclass(frozen=True, eq=False)
class Hop:
    """What one inference of a stream rests on and gives: feature frames so far, those that are new int8 [hop_frames,
    channels], int8 scores."""

    frame: int
    features: Int8
    scores: tuple[int, ...]


class Listener:
    """The host's own front end and network on audio that comes piece by piece from a fresh state, at the hop the board
    reports. HostError for a model that cannot listen."""

    def __init__(self, model: Model, board: Identity) -> None:
        if model.spec is None or board.detector is None:
            raise HostError(f"{model.path}: a model without labels and front end cannot listen; use `infer`")
        self.labels = model.spec.labels
        self._graph, self._features, self._hop = model.graph, model.spec.features, board.detector.hop_frames
        self._run = reference.Run(model.graph)
        self._front_end = MicroFrontend(self._features)
        self._pcm = np.zeros(0, np.int16)  # less than a step
        self._frames = 0
        shape = (max(self._features.frames, self._hop), self._features.channels)
        self._last = np.full(shape, self._features.zero_point, np.int8)  # before the first frame: digital silence

    def hear(self, pcm: Pcm) -> list[Hop]:
        """Every inference that these samples, behind the ones before, complete."""
        waiting = np.concatenate([self._pcm, pcm])
        whole_steps = len(waiting) // self._features.step_samples * self._features.step_samples
        self._pcm = waiting[whole_steps:]
        new = self._front_end.features(waiting[:whole_steps])
        rows = np.concatenate([self._last, new])
        first = self._frames - len(self._last)  # the frame that rows begin with
        ends = [end for end in range(self._frames + 1, self._frames + len(new) + 1) if end % self._hop == 0]
        self._frames += len(new)
        self._last = rows[-len(self._last) :]
        if not ends:
            return []
        windows = np.stack([rows[end - first - self._features.frames : end - first] for end in ends])
        shape = self._graph.tensors[self._graph.input].shape
        scores = self._run.outputs(windows.reshape(len(ends), *shape[1:])).reshape(len(ends), -1)
        return [
            Hop(end, rows[end - first - self._hop : end - first], tuple(int(value) for value in row))
            for end, row in zip(ends, scores, strict=True)
        ]


def listen(model: Model, board: Identity, pcm: Pcm) -> list[Decision]:
    """The host's own decisions for audio heard from a fresh state, at the hop and averaging the board reports."""
    listener = Listener(model, board)
    assert board.detector is not None  # Listener has looked
    detector = Detector(board.detector, len(listener.labels))
    return [Decision(hop.frame, hop.scores, detector.step(hop.scores)) for hop in listener.hear(pcm)]
