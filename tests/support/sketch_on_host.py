"""The sketch as a program of this machine (tests/support/protocol_board.c), under sanitizers, holding a random
TinyConv."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from converter.graph import Graph
from converter.operators.conv2d import Conv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.reshape import Reshape
from converter.operators.softmax import Softmax
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec, KwsSpec
from converter.tensor import QuantParams, Tensor

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware"
SPEC = KwsSpec.of_words(["yes", "stop"])
DETECTOR = DetectorSpec(
    (60, 60),
    average_count=4,
    suppress_frames=10,
    settle_frames=8,
    rates=((0.5, (200, 250)), (2.0, (60, -41))),
)
SANITIZE = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror")


def tinyconv(seed: int = 1, spec: KwsSpec | None = SPEC) -> Graph:
    """A TinyConv of random weights, scaled so that its scores move with the input."""
    rng = np.random.default_rng(seed)
    labels = len(SPEC.labels)

    def quant(scale: float, zero_point: int) -> QuantParams:
        return QuantParams((float(np.float32(scale)),), (zero_point,))

    features = SPEC.features
    tensors = (
        Tensor("features", (1, features.frames, features.channels, 1), quant(features.scale, features.zero_point)),
        Tensor("conv", (1, 25, 20, 8), quant(0.1, -128)),
        Tensor("flat", (1, 4000), quant(0.1, -128)),
        Tensor("logits", (1, labels), quant(0.15, 3)),
        Tensor("scores", (1, labels), quant(1 / 256, -128)),
    )
    scales = tuple(float(np.float32(value)) for value in rng.uniform(0.001, 0.004, 8))
    conv = Conv2D(
        "conv",
        0,
        1,
        rng.integers(-127, 128, (8, 10, 8, 1)).astype(np.int8),
        QuantParams(scales, (0,) * 8, 0),
        rng.integers(-2000, 2000, 8).astype(np.int32),
        (2, 2),
        "SAME",
        "RELU",
    )
    dense = FullyConnected(
        "dense",
        2,
        3,
        rng.integers(-127, 128, (labels, 4000)).astype(np.int8),
        quant(0.0003, 0),
        rng.integers(-2000, 2000, labels).astype(np.int32),
        "NONE",
    )
    return Graph(
        tensors, (conv, Reshape("flatten", 1, 2), dense, Softmax("softmax", 3, 4)), 0, 4, spec.to_json() if spec else ""
    )


def write_model(folder: Path, graph: Graph, detector: DetectorSpec = DETECTOR) -> Path:
    """The generated C of a graph, as `converter convert` writes it."""
    spec = KwsSpec.from_json(graph.spec_json) if graph.spec_json else SPEC
    artifact = ModelArtifact(folder, spec, detector, "tinyconv", "random weights")
    convert.write_all(convert.render(convert.Source(graph, "random", artifact)), folder)
    return folder


def build(
    folder: Path, model: Path, flags: tuple[str, ...] = SANITIZE, defines: tuple[str, ...] = ("-DKWS_LISTEN_AT_BOOT=0",)
) -> Path:
    """Compiles the whole sketch with the aot engine; skips where there is no C++ compiler."""
    if shutil.which("gcc") is None or shutil.which("g++") is None:
        pytest.skip("no gcc and g++ to compile the sketch with")
    libraries = [FIRMWARE / "lib" / name for name in ("nn", "frontend", "protocol", "detector")]
    include = [f"-I{path}" for path in (FIRMWARE / "src", *libraries, model)]
    c_files = [file for library in libraries for file in sorted(library.glob("*.c"))]
    if "KWS_HAS_FRONTEND 0" in (model / "kws_model.h").read_text():
        c_files = [file for file in c_files if file.parent.name != "frontend"]
    c_files += [
        model / "model_aot.c",
        FIRMWARE / "src" / "engine_aot.c",
        FIRMWARE / "src" / "listener.c",
        ROOT / "tests" / "support" / "protocol_board.c",
    ]
    cpp_files = [FIRMWARE / "src" / "main.cpp", FIRMWARE / "src" / "commands.cpp"]
    folder.mkdir(parents=True, exist_ok=True)
    for compiler, standard, files in (("gcc", "gnu11", c_files), ("g++", "gnu++14", cpp_files)):
        command = [compiler, f"-std={standard}", *flags, *defines, *include, "-c", *map(str, files)]
        subprocess.run(command, cwd=folder, check=True, timeout=300)
    program = folder / "board"
    subprocess.run(
        ["g++", *flags, *(str(file) for file in folder.glob("*.o")), "-o", str(program)], check=True, timeout=300
    )
    return program


@contextlib.contextmanager
def running(program: Path, **environment: str) -> Iterator[str]:
    """The program started; yields its port as a URL and checks that it ends without a sanitizer's complaint."""
    process = subprocess.Popen(
        [str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        yield f"socket://127.0.0.1:{int(process.stdout.readline())}"
    except BaseException:
        process.kill()
        print(process.communicate()[1])
        raise
    process.terminate()
    complaint = process.communicate(timeout=20)[1]
    assert process.returncode == -signal.SIGTERM, complaint
