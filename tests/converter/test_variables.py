"""Models that keep state in variables: every engine goes on from the inference before as TensorFlow Lite Micro does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from operator_checks import check_file, tflm
from tflite_files import TfliteFile

from converter import reference
from converter.aot.emit import render_aot
from converter.aot.memory_plan import plan_arena
from converter.aot.native import NativeModel
from converter.aot.stream_plan import plan_stream
from converter.arrays import Int8
from converter.check import check
from converter.errors import ConvertError
from converter.graph import Graph, Variable
from converter.tflite.interpreters import TfliteRuntime, Unavailable
from converter.tflite.reader import read_tflite
from converter.tflite.variables import OPTIONS_TYPES
from converter.tflite.writer import write_tflite

RUNS = 40
ROWS, CHANNELS = 5, 4


class Streaming:
    """As Keras writes a convolution over time of a streaming model, twice: what was kept, the new row behind it, all
    but the first of these to be kept again."""

    def __init__(self, seed: int = 0) -> None:
        self.file, self.first = TfliteFile(), TfliteFile()
        self.file.called.append(self.first)
        self.rng = np.random.default_rng(seed)
        self.quant = (0.05, int(self.rng.integers(-128, 128)))
        self.x = x = self.file.tensor((1, 1, 1, CHANNELS), self.quant, name="x")
        self.once()
        for name in ("near", "far"):
            x = self.convolution(name, x)
        self.y = x

    def once(self) -> None:
        self.file.operator("CALL_ONCE", [], [], OPTIONS_TYPES["CALL_ONCE"], ("Int32", 0, 1))

    def handle(self, file: TfliteFile, name: str) -> int:
        """A tensor that stands for the variable."""
        index = file.tensor((), None, "resource")
        file.operator("VAR_HANDLE", [], [index], OPTIONS_TYPES["VAR_HANDLE"], ("String", 1, name))
        return index

    def begin(self, name: str, values: Int8) -> None:
        handle = self.handle(self.first, name)
        self.first.operator("ASSIGN_VARIABLE", [handle, self.first.constant(values, self.quant)], [])

    def read(self, handle: int) -> int:
        kept = self.file.tensor((1, ROWS - 1, 1, CHANNELS), self.quant)
        self.file.operator("READ_VARIABLE", [handle], [kept])
        return kept

    def assign(self, handle: int, values: int) -> None:
        self.file.operator("ASSIGN_VARIABLE", [handle, values], [])

    def convolution(self, name: str, x: int) -> int:
        file, ints = self.file, np.int32
        self.begin(name, np.full((1, ROWS - 1, 1, CHANNELS), self.quant[1], np.int8))
        handle = self.handle(file, name)
        kept = self.read(handle)
        rows, rest = (
            file.tensor((1, ROWS, 1, CHANNELS), self.quant),
            file.tensor((1, ROWS - 1, 1, CHANNELS), self.quant),
        )
        file.operator("CONCATENATION", [kept, x], [rows], 10, ("Int32", 0, 1))
        taken = [file.constant(np.array(v, ints)) for v in ([0, 1, 0, 0], [1, ROWS, 1, CHANNELS], [1, 1, 1, 1])]
        file.operator("STRIDED_SLICE", [rows, *taken], [rest], 32)
        self.assign(handle, rest)
        weights = file.constant(
            self.rng.integers(-127, 128, (CHANNELS, ROWS, 1, CHANNELS)).astype(np.int8), (0.02, 0), f"{name}/weights"
        )
        bias = file.constant(self.rng.integers(-500, 500, CHANNELS).astype(ints), (0.001, 0), f"{name}/bias")
        y = file.tensor((1, 1, 1, CHANNELS), self.quant, name=name)
        file.operator("CONV_2D", [rows, weights, bias], [y], 1, ("Int8", 0, 1), ("Int32", 1, 1), ("Int32", 2, 1))
        return y

    def bytes(self) -> bytes:
        return self.file.file([self.x], [self.y])


def noise(graph: Graph, count: int = RUNS) -> Int8:
    shape = graph.tensors[graph.input].shape[1:]
    return np.random.default_rng(1).integers(-128, 128, (count, *shape)).astype(np.int8)


def test_all_engines_go_on_from_the_inference_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        data = Streaming(seed).bytes()
        graph = check_file(data, monkeypatch, seed)  # the file itself in TensorFlow Lite Micro, its inputs in a row
        zero = graph.tensors[0].quant.zero_point
        assert [(v.name, v.initial) for v in graph.variables] == [("near", zero), ("far", zero)]
        again = read_tflite(write_tflite(graph))
        assert (again.model_id, again.variables) == (graph.model_id, graph.variables)
        x, micro = noise(graph), tflm(graph)
        wanted = reference.run_batch_all(graph, x)
        for row in range(RUNS):
            for ours, theirs in zip(wanted, micro.tensors(x[row]), strict=True):
                assert np.array_equal(ours[row].ravel(), theirs.ravel()), (seed, row)
        try:
            lite = TfliteRuntime(graph)
            assert np.array_equal(np.stack([lite.output(row) for row in x]).ravel(), wanted[graph.output].ravel())
        except Unavailable:
            pass
        for simd in (False, True) if seed == 0 else ():  # each is compiled
            engine = NativeModel(graph, tmp_path / f"{seed}{simd}", simd)
            for _ in range(2):  # the second time from a reset
                engine.reset()
                for row in range(RUNS):
                    for layer, got in zip(graph.layers, engine.layers(x[row]), strict=True):
                        assert np.array_equal(got, wanted[layer.output][row].ravel()), (seed, simd, row, layer.name)
            on = engine.outputs(x[:1])  # the last rows are still kept
            engine.reset()
            assert not np.array_equal(engine.outputs(x[:1]), on), simd


def test_the_state_counts_and_is_kept_from_call_to_call() -> None:
    graph = read_tflite(Streaming().bytes())
    x, run = noise(graph), reference.Run(graph)
    wanted = reference.run_batch(graph, x)
    parts = [run.outputs(x[at : at + 7]) for at in range(0, RUNS, 7)]
    assert np.array_equal(np.concatenate(parts), wanted)
    alone = np.concatenate([reference.run(graph, row)[graph.output] for row in x])
    assert np.array_equal(alone[0], wanted[0]) and not np.array_equal(alone, wanted)
    other = replace(graph, variables=(replace(graph.variables[0], initial=7), graph.variables[1]))
    assert other.model_id != graph.model_id and replace(graph, variables=()).model_id != graph.model_id


def test_nothing_lies_on_what_is_kept() -> None:
    graph = read_tflite(Streaming().bytes())
    plan = plan_arena(graph)
    kept = [range(at := plan.tensor_offsets[v.read], at + graph.tensors[v.read].size) for v in graph.variables]
    for index, offset in plan.tensor_offsets.items():
        for variable, held in zip(graph.variables, kept, strict=True):
            if index != variable.read:
                assert not set(held) & set(range(offset, offset + graph.tensors[index].size)), index
    assert f"#define MODEL_AOT_STATE_BYTES {2 * (ROWS - 1) * CHANNELS} " in render_aot(graph)["model_aot.h"]


def test_a_model_with_state_is_not_streamed_a_second_time() -> None:
    with pytest.raises(ConvertError, match="keeps its own state"):
        plan_stream(read_tflite(Streaming().bytes()), 1)


class Late(Streaming):
    def assign(self, handle: int, values: int) -> None:
        super().assign(handle, values)
        self.read(handle)


class Twice(Streaming):
    def read(self, handle: int) -> int:
        super().read(handle)
        return super().read(handle)


class Unequal(Streaming):
    def begin(self, name: str, values: Int8) -> None:
        super().begin(name, np.arange(values.size, dtype=np.int8).reshape(values.shape))


class Small(Streaming):
    def begin(self, name: str, values: Int8) -> None:
        super().begin(name, values[:, 1:])


class NeverBegun(Streaming):
    def begin(self, name: str, values: Int8) -> None:
        if name == "far":
            super().begin(name, values)


class NeverAssigned(Streaming):
    def assign(self, handle: int, values: int) -> None:
        pass


class Nowhere(Streaming):
    def once(self) -> None:
        self.file.operator("CALL_ONCE", [], [], OPTIONS_TYPES["CALL_ONCE"], ("Int32", 0, 7))


class Computed(Streaming):
    def begin(self, name: str, values: Int8) -> None:
        super().begin(name, values)
        self.first.operator("RESHAPE", [1], [self.first.tensor(values.shape, self.quant)])


class NoName(Streaming):
    def handle(self, file: TfliteFile, name: str) -> int:
        return super().handle(file, "")


class NoHandle(Streaming):
    def read(self, handle: int) -> int:
        return super().read(self.x)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (Late, "READ_VARIABLE of near behind its assignment; read it before, assign it once"),
        (Twice, "READ_VARIABLE of near a second time; read it once"),
        (Unequal, "near begins with values that differ"),
        (Small, "near: begins with 12 values and is read as 16"),
        (NeverBegun, "near: is read, and no CALL_ONCE gives it a first value"),
        (NeverAssigned, "near: is read, and no ASSIGN_VARIABLE changes it; make it a constant"),
        (Nowhere, "CALL_ONCE of subgraph 7, the file has 2"),
        (Computed, "CALL_ONCE computes RESHAPE; variables may begin with constants only"),
        (NoName, "VAR_HANDLE names no variable; export the model with names"),
        (NoHandle, "operand 0 is no VAR_HANDLE; the file is damaged"),
    ],
)
def test_what_cannot_be_kept_right_is_refused(make: Callable[[], Streaming], rule: str) -> None:
    with pytest.raises(ConvertError, match=rule):
        read_tflite(make().bytes())


def test_a_variable_keeps_what_a_layer_computes() -> None:
    graph = read_tflite(Streaming().bytes())
    near, far = graph.variables
    for wrong, rule in (
        (replace(near, written=far.read), "near: keeps a tensor that no layer computes"),
        (replace(near, written=graph.output), "near: is read as 16 values and written as 4"),
        (replace(near, read=far.read), "variables: two of them are read as one tensor"),
        (Variable("near", near.read, near.written, 128), "near: begins as 128, which is no int8"),
    ):
        with pytest.raises(ConvertError, match=rule):
            check(replace(graph, variables=(wrong, far)))


def test_a_damaged_file_gives_one_sentence_or_a_checked_graph() -> None:
    good, rng, refused = Streaming().bytes(), np.random.default_rng(5), 0
    for _ in range(400):
        data = bytearray(good)
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))):
            data[at] = int(rng.choice([0, 1, 2, 127, 255, rng.integers(256)]))
        try:
            check(read_tflite(bytes(data)))
        except ConvertError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 50 < refused < 400
