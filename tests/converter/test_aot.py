"""The C writer and the arena: generated engines equal the numpy reference, layer by layer."""

from __future__ import annotations

import ctypes
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codegen_graphs import Net, branched, tinyconv_like
from kernels_on_host import NN, ROOT, SOURCES, compile_objects, compile_shared

from converter import reference
from converter.aot.emit import render_aot
from converter.aot.kernels.structs import NnPadLayer
from converter.aot.lower import lower_layer
from converter.aot.memory_plan import plan_arena
from converter.arrays import Int8
from converter.errors import ConvertError
from converter.graph import Graph
from converter.operators.fully_connected import FullyConnected
from converter.operators.pad import Pad
from converter.operators.reshape import Reshape
from converter.target import NRF52840
from converter.tflite.reader import read_tflite

MODELS = ("kws_ref_model", "ad01_int8", "pretrainedResnet_quant")
OBSERVER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint32)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return compile_objects(tmp_path_factory.mktemp("kernels"), SOURCES)


class Engine:
    """A generated engine compiled for this machine."""

    def __init__(self, graph: Graph, folder: Path, kernels: list[Path], simd: bool = True) -> None:
        self.graph = graph
        for name, text in render_aot(graph, simd).items():
            (folder / name).write_text(text)
        self.library = ctypes.CDLL(
            str(compile_shared(folder / "model.so", [folder / "model_aot.c", *kernels], include=[folder]))
        )
        self.library.model_aot_input.restype = ctypes.c_void_p
        self.library.model_aot_output.restype = ctypes.c_void_p

    def layers(self, x: Int8) -> list[tuple[int, str, Int8]]:
        seen: list[tuple[int, str, Int8]] = []

        def observe(layer: int, name: bytes, output: int, size: int) -> None:
            seen.append((layer, name.decode(), np.frombuffer(ctypes.string_at(output, size), np.int8)))

        ctypes.memmove(self.library.model_aot_input(), x.tobytes(), x.size)
        self.library.model_aot_run(OBSERVER(observe))
        return seen

    def output(self, x: Int8) -> Int8:
        ctypes.memmove(self.library.model_aot_input(), x.tobytes(), x.size)
        self.library.model_aot_run(None)
        size = self.graph.tensors[self.graph.output].size
        return np.frombuffer(ctypes.string_at(self.library.model_aot_output(), size), np.int8)


def inputs_of(graph: Graph) -> list[Int8]:
    shape = graph.tensors[graph.input].shape
    noise = np.random.default_rng(5).integers(-128, 128, (2, *shape)).astype(np.int8)
    return [*noise, np.full(shape, -128, np.int8), np.where(noise[0] < 0, -128, 127).astype(np.int8)]


def assert_equals_reference(engine: Engine) -> None:
    graph = engine.graph
    for x in inputs_of(graph):
        want = reference.run(graph, x)
        seen = engine.layers(x)
        assert [number for number, _, _ in seen] == list(range(len(graph.layers)))
        for number, _, got in seen:
            expected = want[graph.layers[number].output].reshape(-1)
            differing = np.flatnonzero(got != expected)
            assert not differing.size, (
                f"{graph.layers[number].name}: {differing.size} of {got.size} differ, first at {differing[0]}"
            )
        assert np.array_equal(engine.output(x), want[graph.output].reshape(-1))


@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_mlperf_models_equal_reference_layer_by_layer(
    mlperf_tiny: Path, kernels: list[Path], tmp_path: Path, model: str, simd: bool
) -> None:
    graph = read_tflite((mlperf_tiny / "models" / f"{model}.tflite").read_bytes())
    assert_equals_reference(Engine(graph, tmp_path, kernels, simd))


@pytest.mark.parametrize("seed", range(6))
def test_tinyconv_shapes_equal_reference_layer_by_layer(kernels: list[Path], tmp_path: Path, seed: int) -> None:
    assert_equals_reference(Engine(tinyconv_like(seed), tmp_path, kernels))


@pytest.mark.parametrize("seed", range(8))
def test_branched_graphs_equal_reference_layer_by_layer(kernels: list[Path], tmp_path: Path, seed: int) -> None:
    assert_equals_reference(Engine(branched(seed), tmp_path, kernels))


@pytest.mark.parametrize("simd", [True, False])
def test_tinyconv_takes_the_kernels_asked_for(simd: bool) -> None:
    source = render_aot(tinyconv_like(0), simd)["model_aot.c"]
    calls = re.findall(r"    (nn_\w+)\(&", source)
    wanted = ["nn_conv_packed_s8", "nn_dense_pairs_s8_simd"] if simd else ["nn_conv_s8", "nn_dense_s8"]
    assert calls == [*wanted, "nn_softmax_s8"]


def test_text_is_reproducible_and_says_where_it_comes_from() -> None:
    files = render_aot(branched(3))
    assert files == render_aot(branched(3))
    assert set(files) == {"model_aot.c", "model_aot.h"}
    for text in files.values():
        assert text.splitlines()[0] == "// Made by: python -m converter convert (do not edit)"
        assert max(map(len, text.splitlines())) <= 140
        assert str(ROOT) not in text and not re.search(r"20\d\d-\d\d", text)


def test_header_states_the_sizes() -> None:
    graph = tinyconv_like(0)
    files = render_aot(graph)
    numbers = {name: int(value) for name, value in re.findall(r"#define MODEL_AOT_(\w+) (\d+)", files["model_aot.h"])}
    kernel = lower_layer(graph, graph.layers[0])
    assert kernel is not None
    assert numbers["INPUT_BYTES"] == 1960 and numbers["OUTPUT_BYTES"] == 4 and numbers["LAYERS"] == 4
    assert numbers["SCRATCH_BYTES"] == kernel.scratch_bytes == 1464
    assert numbers["ARENA_BYTES"] == 1960 + 4000 + 1464


def test_names_from_elsewhere_cannot_break_the_source(kernels: list[Path], tmp_path: Path) -> None:
    net = Net(np.random.default_rng(0), (1, 8))
    logits = net.dense(0, 3)
    dense = net.layers[0]
    assert isinstance(dense, FullyConnected)
    evil = 'a";\\\n*/ ??/ #error \u00e9 %s'
    net.layers[0] = FullyConnected(evil, 0, 1, dense.weights_oi, dense.weight_quant, dense.bias, "NONE")
    engine = Engine(net.graph(logits), tmp_path, kernels)
    assert_equals_reference(engine)
    ((_, name, _),) = engine.layers(inputs_of(engine.graph)[0])
    assert name.startswith("a") and name.endswith("%s")


def test_what_cannot_be_lowered_is_named() -> None:
    net = Net(np.random.default_rng(0), (1, 2, 2, 2, 2))
    y = net.pad(0, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
    with pytest.raises(ConvertError, match=f"pad{y}: PAD of 5 axes"):
        render_aot(net.graph(y))
    net = Net(np.random.default_rng(0), (1, 8))
    y = net.dense(0, 3)
    broken = Graph(
        (net.tensors[0].__class__("in", (1, 9), net.tensors[0].quant), net.tensors[1]), tuple(net.layers), 0, y
    )
    with pytest.raises(ConvertError, match=f"dense{y}: FULLY_CONNECTED takes 8 inputs"):
        render_aot(broken)


# -- arena
# --------------------------------------------------------------------------------------------------------------


def _check_plan(graph: Graph, scratch: list[int]) -> tuple[int, int]:
    """No byte is written while something else still needs it, found by playing the layers through on a byte map."""
    plan = plan_arena(graph, scratch)
    owner = np.full(plan.arena_bytes, -1)
    where = {t: slice(o, o + graph.tensors[t].size) for t, o in plan.tensor_offsets.items()}
    assert all(offset % 4 == 0 for offset in [*plan.tensor_offsets.values(), *plan.scratch_offsets.values()])
    alias = {graph.input: graph.input}
    owner[where[graph.input]] = graph.input
    for i, layer in enumerate(graph.layers):
        if i in plan.scratch_offsets:
            owner[plan.scratch_offsets[i] : plan.scratch_offsets[i] + scratch[i]] = -2
        alias[layer.output] = alias[layer.input] if isinstance(layer, Reshape) else layer.output
        if not isinstance(layer, Reshape):
            owner[where[layer.output]] = layer.output
        for index in layer.inputs:
            assert (owner[where[index]] == alias[index]).all(), f"{layer.name} reads what is overwritten"
        if i in plan.scratch_offsets:
            assert (owner[plan.scratch_offsets[i] : plan.scratch_offsets[i] + scratch[i]] == -2).all()
    assert (owner[where[graph.output]] == alias[graph.output]).all()
    assert plan.arena_bytes >= plan.lower_bound
    return plan.arena_bytes, plan.lower_bound


def _scratch(graph: Graph) -> list[int]:
    return [kernel.scratch_bytes if (kernel := lower_layer(graph, layer)) else 0 for layer in graph.layers]


def test_arena_never_overlaps_and_meets_its_lower_bound() -> None:
    missed = []
    for seed in range(60):
        for graph in (tinyconv_like(seed), branched(seed)):
            bytes_, bound = _check_plan(graph, _scratch(graph))
            if bytes_ > bound:
                missed.append((seed, bytes_, bound))
    assert not missed


@pytest.mark.parametrize("model", MODELS)
def test_arena_of_mlperf_models_is_the_lower_bound(mlperf_tiny: Path, model: str) -> None:
    graph = read_tflite((mlperf_tiny / "models" / f"{model}.tflite").read_bytes())
    bytes_, bound = _check_plan(graph, _scratch(graph))
    assert bytes_ == bound


def test_arena_of_random_lifetimes_stays_near_the_lower_bound() -> None:
    """Residual additions of every reach over tensors of many sizes: worse than any network here; the excess is
    bounded."""
    worst = 0.0
    for seed in range(40):
        rng = np.random.default_rng([9, seed])
        net = Net(rng, (1, 1, 1, int(rng.integers(1, 500))))
        x, by_shape = 0, {net.tensors[0].shape: [0]}
        for _ in range(25):
            same = by_shape[net.tensors[x].shape]
            if len(same) > 1 and rng.random() < 0.5:
                x = net.add(x, same[int(rng.integers(len(same)))])
            else:
                x = net.conv(x, int(rng.choice([7, 50, 51, 333, 400])), (1, 1), (1, 1), "SAME", "NONE")
            by_shape.setdefault(net.tensors[x].shape, []).append(x)
        bytes_, bound = _check_plan(net.graph(x), [int(rng.integers(0, 300)) for _ in net.layers])
        worst = max(worst, bytes_ / bound)
    assert worst <= 1.1


def test_reshapes_cost_nothing() -> None:
    net = Net(np.random.default_rng(0), (1, 4, 4, 4))
    flat = net.flatten(0)
    plan = plan_arena(net.graph(net.dense(flat, 4)))
    assert plan.tensor_offsets[0] == plan.tensor_offsets[flat]
    assert plan.arena_bytes == 64 + 4


# -- engine.h over the generated code
# -----------------------------------------------------------------------------------


class Record(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("cycles", ctypes.c_uint32),
        ("crc32", ctypes.c_uint32),
        ("has_crc", ctypes.c_uint8),
    )


CLOCK = (
    "#include <stdint.h>\nuint32_t board_cycles(void);\nuint32_t board_cycles(void) { static uint32_t "
    "now; return now += 100; }\n"
)


def test_engine_traces_each_layer(kernels: list[Path], tmp_path: Path) -> None:
    graph = branched(2)
    for name, text in render_aot(graph).items():
        (tmp_path / name).write_text(text)
    sizes = {
        "INPUT_BYTES": graph.tensors[graph.input].size,
        "OUTPUT_BYTES": graph.tensors[graph.output].size,
        "LAYERS": len(graph.layers),
    }
    (tmp_path / "kws_model.h").write_text("".join(f"#define KWS_{name} {value}\n" for name, value in sizes.items()))
    (tmp_path / "clock.c").write_text(CLOCK)
    src = ROOT / "firmware" / "src"
    sources = [src / "engine_aot.c", tmp_path / "model_aot.c", tmp_path / "clock.c", *kernels]
    library = ctypes.CDLL(str(compile_shared(tmp_path / "engine.so", sources, include=[tmp_path, src, NN])))
    for name in ("engine_input", "engine_output"):
        getattr(library, name).restype = ctypes.c_void_p
    library.engine_name.restype = ctypes.c_char_p
    for name in ("engine_init", "engine_invoke", "engine_invoke_traced"):
        getattr(library, name).restype = ctypes.c_char_p
    assert library.engine_name() == b"aot" and library.engine_init() is None
    x = inputs_of(graph)[0]
    want = reference.run(graph, x)
    for room in (len(graph.layers), 3):
        ctypes.memmove(library.engine_input(), x.tobytes(), x.size)
        records, count = (Record * 64)(), ctypes.c_int()
        assert library.engine_invoke_traced(records, room, ctypes.byref(count)) is None
        assert count.value == room
        for record, layer in zip(records[:room], graph.layers, strict=False):
            assert (record.name.decode(), record.cycles, record.has_crc) == (layer.name, 100, 1)
            assert record.crc32 == zlib.crc32(want[layer.output].tobytes())
        assert records[room].name is None
    ctypes.memmove(library.engine_input(), x.tobytes(), x.size)
    assert library.engine_invoke() is None
    assert ctypes.string_at(library.engine_output(), sizes["OUTPUT_BYTES"]) == want[graph.output].tobytes()
    assert library.engine_arena_bytes() == plan_arena(graph, _scratch(graph)).arena_bytes


def test_pad_layers_are_lowered_from_any_rank() -> None:
    net = Net(np.random.default_rng(0), (1, 5))
    y = net.pad(0, ((0, 0), (2, 3)))
    layer = net.layers[0]
    assert isinstance(layer, Pad)
    kernel = lower_layer(net.graph(y), layer)
    assert kernel is not None
    assert isinstance(kernel.layer, NnPadLayer)
    shapes = [kernel.layer.in_shape, kernel.layer.before, kernel.layer.out_shape]
    assert shapes == [(1, 1, 1, 5), (0, 0, 0, 2), (1, 1, 1, 10)]


def test_constants_go_to_ram_by_their_uses_and_as_far_as_the_budget_reaches() -> None:
    """TinyConv: the convolution's weights serve 125 products a byte, those of the dense layer one."""
    graph = tinyconv_like(0)

    def placed(ram_budget: int | None) -> list[str]:
        text = render_aot(graph, ram_budget=ram_budget)["model_aot.c"]
        return re.findall(r"NN_IN_RAM static \S+ \w+ (layer\d)_weights", text)

    assert [placed(budget) for budget in (0, None, 1 << 16)] == [[], ["layer0"], ["layer0", "layer2"]]
    assert placed(8_000) == []  # code and arena alone need as much


def test_a_budget_that_the_board_has_not_is_refused(mlperf_tiny: Path) -> None:
    graph = read_tflite((mlperf_tiny / "models" / "ad01_int8.tflite").read_bytes())
    less = replace(NRF52840, ram_bytes=220_000)  # of which its constants and the least firmware take 235,424
    render_aot(graph, target=less, ram_budget=None)
    with pytest.raises(ConvertError, match=r"over the RAM of the nRF52840.*--ram-budget"):
        render_aot(graph, target=less, ram_budget=less.ram_bytes)
