"""TVM's int8 layers in the firmware: the third engine gives what the reference gives, layer by layer, on the virtual
board."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernels_on_host import compile_shared
from random_layers import random_graph, random_inputs

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from converter import convert as conversion
from converter import reference
from converter.arrays import Int8
from converter.graph import Graph, Variable
from converter.operators.softmax import Softmax
from host.firmware_build import build_firmware
from host.link.client import connect
from trainer.__main__ import board_tools
from trainer.errors import TrainerError
from trainer.tvm import cortex_study
from trainer.tvm.cortex import STEPS, kernel_of
from trainer.tvm.cortex_firmware import ASSEMBLY, render, write_firmware

RUN = Path(__file__).parents[3] / "reference"


def outputs(graph: Graph, inputs: Int8, steps: int, folder: Path) -> Int8:
    """The generated C on this machine, without the dual multiply-accumulate's instruction."""
    folder.mkdir(parents=True)
    for name, text in render(graph, steps, "c").items():
        (folder / name).write_text(text)
    flags = "-fwrapv", "-Wno-unused-parameter"  # where the clamp is one value, nothing else is read
    library = ctypes.CDLL(str(compile_shared(folder / "model.so", [folder / "model_aot.c"], *flags, include=[folder])))
    library.model_aot_input.restype = library.model_aot_output.restype = ctypes.c_void_p
    found = []
    for x in inputs:
        ctypes.memmove(library.model_aot_input(), np.ascontiguousarray(x).ctypes.data, x.size)
        library.model_aot_run(None)
        found.append(
            np.frombuffer(ctypes.string_at(library.model_aot_output(), graph.tensors[graph.output].size), np.int8)
        )
    return np.stack(found)


def compiled_by_tvm(start: int, count: int) -> list[tuple[int, Graph]]:
    """The first random layers from `start` on that TVM compiles."""
    graphs = ((index, random_graph(index)) for index in itertools.count(start))
    wanted = ((index, graph) for index, graph in graphs if all(kernel_of(graph, layer) for layer in graph.layers))
    return list(itertools.islice(wanted, count))


def check_random(start: int, count: int, folder: Path) -> None:
    for index, graph in compiled_by_tvm(start, count):
        inputs = random_inputs(graph, index)
        want = reference.run_batch(graph, inputs).reshape(len(inputs), -1)
        for steps in (0, len(STEPS)):
            got = outputs(graph, inputs, steps, folder / f"{index}_{steps}")
            assert np.array_equal(got, want), f"random layer {index}, {graph.layers[0]}, {steps} steps"


def test_random_layers_equal_the_reference(tmp_path: Path) -> None:
    check_random(0, 8, tmp_path)


@pytest.mark.slow  # a compiler run per layer and schedule
@pytest.mark.parametrize("start", [1000, *(pytest.param(n, marks=pytest.mark.long) for n in (1100, 1200, 1300))])
def test_many_random_layers_equal_the_reference(tmp_path: Path, start: int) -> None:
    check_random(start, 20, tmp_path)


def images(graph: Graph) -> Int8:
    """Noise, and every input at one end of its range or at zero."""
    shape = graph.tensors[graph.input].shape
    noise = np.random.default_rng(3).integers(-128, 128, (9, *shape)).astype(np.int8)
    return np.concatenate([noise, *(np.full((1, *shape), value, np.int8) for value in (-128, 0, 127))])


def check_on_board(folder: Path, steps: int, generator: str) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    graph = conversion.load(RUN).graph
    write_firmware(RUN, folder, steps, generator)
    assert (folder / "firmware" / ASSEMBLY).is_file() == (generator == "llvm")
    with connect(str(build_firmware(folder / "firmware", folder / "build"))) as board:
        assert board.identity.engine == "tvm"
        for x in images(graph):
            board.load_input(x.tobytes())
            layers, _ = board.layers()
            tensors = reference.run(graph, x)
            assert [layer.crc32 for layer in layers] == [
                zlib.crc32(tensors[layer.output].tobytes()) for layer in graph.layers
            ]


def test_every_layer_on_the_virtual_board_by_llvm(tmp_path: Path) -> None:
    check_on_board(tmp_path, len(STEPS), "llvm")


@pytest.mark.slow  # seven more images
@pytest.mark.parametrize(
    ("steps", "generator"), [(steps, generator) for generator in ("c", "llvm") for steps in range(len(STEPS) + 1)]
)
def test_every_layer_on_the_virtual_board_after_every_step(tmp_path: Path, steps: int, generator: str) -> None:
    check_on_board(tmp_path, steps, generator)


def test_generated_files_are_the_same_each_time_and_a_second_generator_leaves_nothing_of_the_first(
    tmp_path: Path,
) -> None:
    graph = conversion.load(RUN).graph
    first = render(graph, len(STEPS), "llvm")
    assert first == render(graph, len(STEPS), "llvm") and "smlad" in first[ASSEMBLY]
    for generator in ("llvm", "c"):
        write_firmware(RUN, tmp_path, None, generator)
    names = {file.name for file in (tmp_path / "firmware").iterdir()}
    assert (
        ASSEMBLY not in names
        and {"model_aot.c", "model_aot.h", "kws_model.h", "frontend_tables.h", "model_data.c"} <= names
    )
    text = (tmp_path / "firmware" / "model_aot.c").read_text()
    assert "tvm/" not in text and "TVMBackend" not in text, "nothing of TVM's run-time library"


@pytest.mark.slow
@pytest.mark.long  # five images
def test_the_study_measures_every_step(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    lines = cortex_study.table(tmp_path, board_tools())
    cells = [line.split("|")[1:-1] for line in lines if line.startswith("| tvm")]
    cycles = [int(cell[-1].replace(",", "")) for cell in cells]
    assert len(cycles) == 2 * (len(STEPS) + 1)
    for original, *_, manual in (cycles[: len(STEPS) + 1], cycles[len(STEPS) + 1 :]):
        assert manual < original / 2


def test_a_wrong_layer_and_a_model_without_such_layers_are_told(tmp_path: Path) -> None:
    right = cortex_study.Profile(("conv",), (10,), ("00000001",))
    with pytest.raises(
        TrainerError, match="layer conv must give what the compiled engine gives, CRC 00000001, got 00000002"
    ):
        cortex_study.require_equal(cortex_study.Profile(("conv",), (9,), ("00000002",)), right)
    softmax = next(
        graph for index in itertools.count() if isinstance((graph := random_graph(index)).layers[0], Softmax)
    )
    with pytest.raises(TrainerError, match="the model has none"):
        render(softmax, 0, "c")


def test_a_model_that_keeps_state_is_refused() -> None:
    graph = compiled_by_tvm(0, 1)[0][1]
    stateful = replace(graph, variables=(Variable("v", graph.input, graph.output, 0),))
    with pytest.raises(TrainerError, match="tvm firmware: the model keeps state between inferences"):
        render(stateful, 0, "c")
