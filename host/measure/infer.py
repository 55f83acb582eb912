"""One input through the board, and the same through the host's reference, layer by layer."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from converter import reference
from converter.arrays import Int8
from converter.audio.frontend import MicroFrontend, quantize_features
from converter.audio.wav import read_wav
from converter.commands import cli
from host.errors import HostError
from host.link.client import Board
from host.link.expected import Model, require_same
from host.link.protocol import LayerRun, WireTensor

RAW_SUFFIXES = (".npy", ".bin")


@dataclass(frozen=True)
class Comparison:
    """A layer on the board beside the same layer on the host."""

    board: LayerRun
    host_crc32: int

    @property
    def equal(self) -> bool | None:
        """None where the board cannot see the layer's output."""
        return None if self.board.crc32 is None else self.board.crc32 == self.host_crc32


@dataclass(frozen=True)
class Answer:
    """The board's scores for one input. features_equal and layers need a model to compare with."""

    labels: tuple[str, ...]
    output: tuple[float, ...]
    results: tuple[float, ...]
    features_equal: bool | None
    layers: tuple[LayerRun, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def best(self) -> str:
        """The label of the highest score, the first of equals."""
        return self.labels[max(range(len(self.output)), key=lambda index: (self.output[index], -index))]

    @property
    def differences(self) -> int:
        """Layers that differ, and the features as one more."""
        return sum(pair.equal is False for pair in self.comparisons) + (self.features_equal is False)


def read_input(path: Path, size: int) -> Int8:
    """An int8 network input from a .npy or raw .bin file; raises HostError for any other type or size."""
    if not path.is_file():
        raise HostError(f"{path}: no such file; name a .npy or .bin of the network's int8 input")
    if path.suffix == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise HostError(
                f"{path}: no readable .npy ({str(error).splitlines()[0]}); save an int8 array with numpy.save"
            ) from None
        if not isinstance(values, np.ndarray) or values.dtype != np.int8:
            raise HostError(
                f"{path}: must hold int8, got {getattr(values, 'dtype', type(values).__name__)}; quantize it first"
            )
        data: Int8 = values.reshape(-1)
    else:
        data = np.frombuffer(path.read_bytes(), np.int8)
    if data.size != size:
        raise HostError(f"{path}: the network wants {size} bytes, got {data.size}")
    return data


def read_wire(path: Path, tensors: tuple[WireTensor, ...]) -> bytes:
    """The inputs of a model that only TensorFlow Lite Micro runs, as they lie in memory: a .npy of the one input's type
    and size, or a .bin of the bytes of all."""
    wanted = [tensor for tensor in tensors if tensor.side == "input"]
    listed = ", ".join(f"{tensor.kind} {tensor.shape}" for tensor in wanted)
    if path.suffix == ".bin" and path.is_file():
        data = path.read_bytes()
    elif path.suffix == ".npy" and len(wanted) == 1:
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise HostError(f"{path}: no readable .npy ({str(error).splitlines()[0]}); save {listed}") from None
        if not isinstance(values, np.ndarray) or values.dtype != np.dtype(wanted[0].kind):
            raise HostError(f"{path}: must hold {listed}, got {getattr(values, 'dtype', type(values).__name__)}")
        data = values.tobytes()
    else:
        raise HostError(
            f"{path}: the model takes {listed}; give the bytes of its inputs, one behind the other, as a .bin"
        )
    if len(data) != (size := sum(tensor.bytes for tensor in wanted)):
        raise HostError(f"{path}: the model takes {listed}, {size} bytes, got {len(data)}")
    return data


def infer_wire(board: Board, data: bytes) -> Answer:
    """The answer of a model that only TensorFlow Lite Micro runs: each output's own values, and what they stand for."""
    board.load_input(data)
    layers, scores = board.layers()
    raw, names, output, results = bytes(score & 255 for score in scores), [], [], []
    outputs = [tensor for tensor in board.identity.tensors if tensor.side == "output"]
    for number, tensor in enumerate(outputs):
        values, raw = np.frombuffer(raw[: tensor.bytes], tensor.kind), raw[tensor.bytes :]
        names += [f"{number}:{index}" if len(outputs) > 1 else str(index) for index in range(len(values))]
        output += values.tolist()
        results += [float(value) for value in (values - float(tensor.zero_point)) * (tensor.scale or 1.0)]
    return Answer(tuple(names), tuple(output), tuple(results), None, tuple(layers), ())


def infer(board: Board, path: Path, model: Model | None = None) -> Answer:
    """A recording (its first clip, features made on the board) or an int8 input file through the board."""
    identity = board.identity
    if identity.tensors:
        return infer_wire(board, read_wire(path, identity.tensors))
    if model is not None:
        require_same(identity, model)
    features_equal = None
    if path.suffix in RAW_SUFFIXES:
        values = read_input(path, identity.input_bytes)
        board.load_input(values.tobytes())
    else:
        if identity.audio is None:
            raise HostError(f"{path}: the model on the board has no front end; give its int8 input as .npy or .bin")
        pcm = read_wav(path)[: identity.audio.clip_samples]
        board.load_pcm(pcm)
        found = board.features()
        values = np.frombuffer(found.data, np.int8)
        if model is not None and model.spec is not None:
            padded = np.concatenate([pcm, np.zeros(identity.audio.clip_samples - len(pcm), np.int16)])
            own = quantize_features(MicroFrontend(model.spec.features).process(padded), model.spec.features)
            features_equal = own.tobytes() == found.data
    results = board.infer().results
    layers, output = board.layers()
    comparisons = () if model is None else compare_layers(model, values, layers)
    return Answer(identity.outputs, output, results, features_equal, tuple(layers), comparisons)


def compare_layers(model: Model, values: Int8, layers: list[LayerRun]) -> tuple[Comparison, ...]:
    """CRC of every layer's output on the host beside the board's."""
    if len(layers) != len(model.graph.layers):
        raise HostError(
            f"the board traced {len(layers)} layers, {model.path} has {len(model.graph.layers)}; flash that model again"
        )
    tensors = reference.run(model.graph, values.reshape(model.graph.tensors[model.graph.input].shape))
    own = [zlib.crc32(tensors[layer.output].tobytes()) for layer in model.graph.layers]
    return tuple(Comparison(board, host) for board, host in zip(layers, own, strict=True))


def layer_table(answer: Answer, clock_hz: int) -> Table:
    """Cycles of each layer and, with a model, whether its output equals the host's."""
    heads = ("#", "layer", "cycles", "us", "CRC-32 board", "CRC-32 host", "equal")
    table = cli.table("layers", heads, left=("layer", "equal"))
    pairs = answer.comparisons or [None] * len(answer.layers)
    for layer, pair in zip(answer.layers, pairs, strict=True):
        seen = "not visible" if layer.crc32 is None else f"{layer.crc32:08x}"
        host = "" if pair is None else f"{pair.host_crc32:08x}"
        equal = "" if pair is None else {True: "yes", False: "NO", None: "not seen"}[pair.equal]
        table.add_row(
            str(layer.index), layer.name, f"{layer.cycles:,}", f"{layer.cycles * 1e6 / clock_hz:.1f}", seen, host, equal
        )
    return table


def show(answer: Answer, clock_hz: int, console: Console, layers: bool) -> None:
    """Scores, the best label, with `layers` the layers."""
    for label, raw, value in zip(answer.labels, answer.output, answer.results, strict=True):
        console.print(f"{label:>12} {value:7.3f} ({raw:4})", highlight=False)
    console.print(f"best: {answer.best}")
    if layers:
        console.print(layer_table(answer, clock_hz))
    if answer.features_equal is not None:
        console.print(f"features equal to the host's: {'yes' if answer.features_equal else 'NO'}")


def to_json(answer: Answer) -> dict[str, Any]:
    """What `infer --json` writes."""
    return {**asdict(answer), "best": answer.best, "differences": answer.differences}


def first_difference(answer: Answer) -> str:
    """Where board and host part, in one sentence."""
    if answer.features_equal is False:
        return "the board's features differ from the host's"
    for pair in answer.comparisons:
        if pair.equal is False:
            return (
                f"layer {pair.board.index} ({pair.board.name}) is the first that differs: CRC-32 "
                f"{pair.board.crc32:08x} on the board, "
                f"{pair.host_crc32:08x} on the host"
            )
    return "no difference"
