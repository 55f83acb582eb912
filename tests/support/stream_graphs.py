"""Networks that stream in different ways, their windows over a stream of frames, and the generated engine that steps
through it."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from codegen_graphs import Net, tinyconv_like
from kernels_on_host import compile_shared

from converter import convert, reference
from converter.aot.emit import render_aot
from converter.arrays import Int8, Int16
from converter.audio.frontend import MicroFrontend, quantize_features
from converter.audio.wav import read_wav
from converter.graph import Graph
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.windows import Padding
from converter.spec import FeatureSpec
from converter.tensor import QuantParams

OBSERVER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint32)


def _ending(net: Net, x: int) -> Graph:
    return net.graph(net.softmax(net.dense(net.flatten(x), 5)))


def ds_cnn(seed: int = 0, padding: Padding = "SAME", frames: int = 49, bins: int = 10, channels: int = 8) -> Graph:
    """A convolution, three depthwise-separable pairs, the mean over the plane, dense."""
    net = Net(np.random.default_rng([21, seed]), (1, frames, bins, 1))
    x = net.conv(0, channels, (10, 4), (2, 2), padding, "RELU")
    for _ in range(3):
        x = net.conv(net.depthwise(x, (3, 3)), channels, (1, 1), (1, 1), padding, "RELU")
    _, h, w, _ = net.tensors[x].shape
    return _ending(net, net.pool(x, AveragePool2D, (h, w)))


def valid_in_time(seed: int = 0, kernels: tuple[int, ...] = (10, 3, 1)) -> Graph:
    """Convolutions without padding: one new row each, a few rows kept in front of it."""
    net = Net(np.random.default_rng([22, seed]), (1, 49, 20, 1))
    x = 0
    for index, height in enumerate(kernels):
        x = net.conv(x, 6, (height, 3), (2, 2) if index == 0 else (1, 1), "VALID", "RELU")
    return _ending(net, x)


def residual(seed: int = 0) -> Graph:
    """A pad, branches added together, a pool in time, a tensor read by two layers."""
    net = Net(np.random.default_rng([23, seed]), (1, 40, 9, 2))
    x = net.pad(0, ((0, 0), (2, 1), (0, 1), (0, 0)))
    x = net.conv(x, 5, (4, 3), (2, 1), "VALID", "RELU")
    side = net.conv(x, 5, (3, 1), (1, 1), "SAME", "NONE")
    x = net.add(net.depthwise(x, (5, 3)), side)
    x = net.pool(net.add(x, side), MaxPool2D, (2, 2))
    return _ending(net, net.conv(x, 7, (1, 2), (1, 1), "SAME", "RELU6"))


def along_time(seed: int = 0, padding: Padding = "VALID", channels: int = 11) -> Graph:
    """A convolution over all bins, then depthwise-separable pairs along time, as the spotter's."""
    net = Net(np.random.default_rng([25, seed]), (1, 49, 10, 1))
    x = net.conv(0, channels, (3, 10), (2, 2), "VALID", "RELU")
    for kernel in (5, 8):
        x = net.depthwise(x, (kernel, 1), padding=padding)
        net.tensors[x] = replace(net.tensors[x], quant=QuantParams((0.05,), (-128,)))  # a ReLU as training gives it
        x = net.conv(x, channels, (1, 1), (1, 1), "VALID", "RELU")
    return _ending(net, x)


GRAPHS: dict[str, tuple[Graph, int]] = {
    "tinyconv": (tinyconv_like(0), 2),
    "tinyconv, hop 4": (tinyconv_like(0), 4),
    "ds_cnn": (ds_cnn(), 2),
    "ds_cnn valid": (ds_cnn(1, "VALID"), 2),
    "valid": (valid_in_time(), 2),
    "valid, hop 6": (valid_in_time(1), 6),
    "valid one layer": (valid_in_time(2, (10,)), 2),
    "pointwise first": (valid_in_time(3, (1, 5, 4)), 2),
    "residual": (residual(), 4),
    "along time": (along_time(), 2),
    "along time, padded": (along_time(1, "SAME"), 2),
    **{f"tinyconv_like({seed})": (tinyconv_like(seed), hop) for seed, hop in ((1, 3), (3, 1), (5, 3), (8, 2), (10, 1))},
}


def noise_frames(graph: Graph, frames: int, seed: int = 0) -> Int8:
    return (
        np.random.default_rng([24, seed])
        .integers(-128, 128, (frames, *graph.tensors[graph.input].shape[2:]))
        .astype(np.int8)
    )


def windows(graph: Graph, frames: Int8, hop: int, start: Int8 | None = None) -> Int8:
    """The whole window after each hop: [hops, *input shape]."""
    x = graph.tensors[graph.input]
    rows = x.shape[1]
    before = (
        np.full((rows, *x.shape[2:]), x.quant.zero_point, np.int8)
        if start is None
        else start.reshape(rows, *x.shape[2:])
    )
    padded = np.concatenate([before, frames.reshape(-1, *x.shape[2:])])
    ends = range(hop, len(frames) + 1, hop)
    windows: Int8 = np.stack([padded[end : end + rows] for end in ends]).reshape(len(ends), *x.shape[1:])
    return windows


class StreamEngine:
    """A generated engine compiled for this machine, fed hop by hop."""

    def __init__(self, graph: Graph, hop: int, folder: Path, kernels: list[Path], simd: bool = True) -> None:
        self.graph, self.hop = graph, hop
        self.texts = render_aot(graph, simd, hop)
        for name, text in self.texts.items():
            (folder / name).write_text(text)
        self.library = ctypes.CDLL(
            str(compile_shared(folder / "model.so", [folder / "model_aot.c", *kernels], include=[folder]))
        )
        self.library.model_aot_input.restype = ctypes.c_void_p
        self.library.model_aot_output.restype = ctypes.c_void_p

    def start(self, window: Int8) -> Int8:
        ctypes.memmove(self.library.model_aot_input(), window.tobytes(), window.size)
        self.library.model_aot_stream_start()
        return self.output()

    def output(self) -> Int8:
        return np.frombuffer(
            ctypes.string_at(self.library.model_aot_output(), self.graph.tensors[self.graph.output].size), np.int8
        )

    def step(self, rows: Int8) -> list[tuple[int, Int8]]:
        """What the observer saw of each layer: the last rows of its output."""
        seen: list[tuple[int, Int8]] = []

        def observe(layer: int, _name: bytes, output: int, size: int) -> None:
            seen.append((layer, np.frombuffer(ctypes.string_at(output, size), np.int8)))

        self.library.model_aot_stream_run(rows.tobytes(), OBSERVER(observe))
        return seen


def first_difference(engine: StreamEngine, frames: Int8, start: Int8) -> str:
    """Steps through a stream and compares every layer after every hop with the numpy run of the whole window; "" when
    all is equal."""
    graph, hop = engine.graph, engine.hop
    expected = reference.run_batch_all(graph, windows(graph, frames, hop, start))
    if not np.array_equal(engine.start(start), reference.run(graph, start)[graph.output].reshape(-1)):
        return "the first window"
    for index in range(len(frames) // hop):
        for number, got in engine.step(frames[index * hop : (index + 1) * hop]):
            want = expected[graph.layers[number].output][index].reshape(-1)
            if got.size == 0 or not np.array_equal(got, want[want.size - got.size :]):
                return f"hop {index}, layer {graph.layers[number].name}: the last {got.size} values"
        if not np.array_equal(engine.output(), expected[graph.output][index].reshape(-1)):
            return f"hop {index}: the output"
    return ""


ROOT = Path(__file__).resolve().parents[2]


def recording(folder: Path, seconds: float) -> Int8:
    """Features of real recordings one after another, words in turn, the front end never reset."""
    pcm: list[Int16] = []
    words = [
        sorted(word.glob("*.*"))
        for word in sorted(folder.iterdir())
        if word.is_dir() and word.name != "_background_noise_"
    ]
    for file in (file for turn in zip_longest(*words) for file in turn if file):
        pcm.append(read_wav(file))
        if sum(map(len, pcm)) >= seconds * 16000:
            break
    return quantize_features(MicroFrontend().process(np.concatenate(pcm)), FeatureSpec())


def models() -> dict[str, Graph]:
    """The reference model and three shapes of others on its features."""
    own = convert.load(ROOT / "reference").graph
    return {
        "reference": own,
        "tinyconv": tinyconv_like(0),
        "ds_cnn": ds_cnn(5, "SAME", 49, 40, 6),
        "ds_cnn valid": ds_cnn(6, "VALID", 49, 40, 6),
    }
