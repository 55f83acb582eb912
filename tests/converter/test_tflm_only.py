"""A .tflite that the compiled engine refuses and TensorFlow Lite Micro runs converts for engine tflm alone; the bytes
are the file's own, whatever types and however many ends it has.

KWS_TFLM_SOURCE  sources of TensorFlow Lite Micro, for images of these models on the virtual board
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tflite_files import TfliteFile
from typer.testing import CliRunner

from converter import convert as conversion
from converter.__main__ import app as converter_app
from converter.errors import ConvertError
from converter.tflite.interpreters import Unavailable
from converter.tflite.reader import read_tflite
from converter.tflite.tflm_only import RESOLVERS, TflmOnly, read_tflm_only
from converter.tflite.writer import write_tflite
from converter.verify import original, tflm_only
from host.__main__ import app as host_app
from host.emulator.errors import BoardError
from host.errors import HostError
from host.firmware_build import build_firmware
from host.link.protocol import Identity, Record
from host.measure.infer import read_wire
from host.tflm_sources import copy_tflm

TENSOR = Record("tensor", ("input", "int16", "1x4", "8", "0.01", "0"))


def two_outputs() -> bytes:
    file = TfliteFile()
    x, flat, squashed = file.tensor((1, 2, 4)), file.tensor((1, 8)), file.tensor((1, 2, 4), (1 / 256, -128))
    file.operator("RESHAPE", [x, file.constant(np.array([1, 8], np.int32))], [flat])
    file.operator("LOGISTIC", [x], [squashed])
    return file.file([x], [squashed, flat])


def two_inputs() -> bytes:
    file = TfliteFile()
    x, z, y = file.tensor((1, 3)), file.tensor((1, 3), (0.1, -4)), file.tensor((1, 3), (0.2, 7))
    file.operator("ADD", [x, z], [y], 11)
    return file.file([z, x], [y])


def mean_of_axes_apart() -> bytes:
    file = TfliteFile()
    x, y = file.tensor((1, 2, 6, 2)), file.tensor((1, 6))
    file.operator("MEAN", [x, file.constant(np.array([1, 3], np.int32))], [y], 27)
    return file.file([x], [y])


def int16_activations() -> bytes:
    file = TfliteFile()
    x, y = file.tensor((1, 4), (1 / 4096, 0), "int16"), file.tensor((1, 4), (1 / 32768, 0), "int16")
    file.operator("TANH", [x], [y])
    return file.file([x], [y])


def floats_to_uint8() -> bytes:
    file = TfliteFile()
    x, sine, y = (file.tensor((2, 3), None, "float32") for _ in range(3))
    stepped, scores = file.tensor((2, 3), (0.01, 0)), file.tensor((2, 3), (0.01, 128), "uint8")
    file.operator("SIN", [x], [sine])
    file.operator("ABS", [sine], [y])
    file.operator("QUANTIZE", [y], [stepped])
    file.operator("QUANTIZE", [stepped], [scores])
    return file.file([x], [scores])


MODELS: dict[str, tuple[Callable[[], bytes], str, int, int]] = {
    "two_outputs": (two_outputs, "one input and one output, got 1 and 2", 8, 16),
    "two_inputs": (two_inputs, "one input and one output, got 2 and 1", 6, 3),
    "mean": (mean_of_axes_apart, "axes beside each other", 24, 6),
    "int16": (int16_activations, "must be int8, got int16", 8, 8),
    "floats": (floats_to_uint8, "SIN is not supported", 24, 6),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model by its name in MODELS."""
    pytest.importorskip("tflite_micro")
    place = tmp_path_factory.mktemp("tflm_only")

    def folder(name: str) -> Path:
        file = place / f"{name}.tflite"
        if not file.exists():
            file.write_bytes(MODELS[name][0]())
            (place / name).mkdir()
            (place / name / "model_aot.c").write_text("an older model's")
            done = CliRunner().invoke(converter_app, ["convert", str(file), "--out", str(place / name)])
            assert done.exit_code == 0, done.output
            assert f"tflm only, because: {tflm(name).why}\n" in done.output
        return place / name

    return folder


def tflm(name: str) -> TflmOnly:
    data = MODELS[name][0]()
    with pytest.raises(ConvertError) as refused:
        read_tflite(data)
    return read_tflm_only(name, data, str(refused.value))


@pytest.mark.parametrize("name", MODELS)
def test_its_own_bytes_and_an_arena_that_holds_it(name: str, converted: Callable[[str], Path]) -> None:
    make, why, input_bytes, output_bytes = MODELS[name]
    folder, model = converted(name), tflm(name)
    assert why in model.why
    assert {file.name for file in folder.iterdir()} == {"model.tflite", "model_data.c", "model_data.h", "kws_model.h"}
    assert (folder / "model.tflite").read_bytes() == make()
    header = (folder / "kws_model.h").read_text()
    assert f"#define KWS_INPUT_BYTES {input_bytes}\n#define KWS_OUTPUT_BYTES {output_bytes}\n" in header
    for operator in model.operators:
        assert f"(r).{RESOLVERS[operator]}();" in header
    assert f'#define KWS_MODEL_ID "{model.model_id}"\n' in header and f'#define KWS_MODEL_NAME "{name}"\n' in header
    x = tflm_only.noise(model)
    ran = tflm_only.ran(model, x)
    assert f"#define KWS_TFLM_ARENA_BYTES {ran.arena_bytes}\n" in header
    assert ran.outputs.shape == (len(x), output_bytes) and len(np.unique(ran.outputs)) > 5
    checked = CliRunner().invoke(converter_app, ["verify", str(folder)])
    assert checked.exit_code == 0 and checked.output.count("equal  ") == 2, checked.output
    sized = CliRunner().invoke(converter_app, ["size", str(folder)])
    assert sized.exit_code == 0 and f"{ran.arena_bytes:,}" in sized.output
    with pytest.raises(ConvertError, match=r"model.tflite: "):  # what wants a Graph is told why there is none
        conversion.load(folder)
    (folder / "model_data.c").write_bytes((folder / "model_data.c").read_bytes() + b"\n")
    assert (
        "model_data.c: is not what convert makes" in CliRunner().invoke(converter_app, ["verify", str(folder)]).output
    )


def test_values_are_the_interpreters(converted: Callable[[str], Path]) -> None:
    """Inputs and outputs are in the file's order, one behind the other."""
    del converted
    x, z = np.array([10, 20, 30], np.int8), np.array([-4, 6, 16], np.int8)
    row = np.concatenate([z, x]).view(np.uint8).reshape(1, -1)
    wanted = np.round((x - 3.0) * 0.05 / 0.2 + (z + 4.0) * 0.1 / 0.2) + 7
    assert np.abs(tflm_only.ran(tflm("two_inputs"), row).outputs.view(np.int8) - wanted).max() <= 1
    model, values = tflm("two_outputs"), np.arange(8, dtype=np.int8)
    assert tflm_only.ran(model, values.view(np.uint8).reshape(1, -1)).outputs[0, 8:].tolist() == list(range(8))


@pytest.mark.parametrize("operator", ["SEGMENT_SUM", "own_op"])
def test_what_neither_engine_runs(operator: str, tmp_path: Path) -> None:
    file = TfliteFile()
    x, y = file.tensor((1, 4)), file.tensor((1, 4), name="y")
    (tmp_path / "m.tflite").write_bytes(file.file([x], file.operator(operator, [x], [y])))
    done = CliRunner().invoke(converter_app, ["convert", str(tmp_path / "m.tflite"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1 and not (tmp_path / "out").exists()
    assert f"y: {operator} is not supported" in done.output
    assert f"it is not for TensorFlow Lite Micro either: its resolver has no {operator}" in done.output


def test_too_large_missing_and_wrong_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TfliteFile()
    x, y = file.tensor((1, 200_000), None, "float32"), file.tensor((1, 200_000), None, "float32")
    large = read_tflm_only("large", file.file([x], file.operator("ABS", [x], [y])), "x must be int8")
    with pytest.raises(ConvertError, match=r"large: .*only \(x must be int8\), and there at least .* over the RAM"):
        tflm_only.files(large)
    (tmp_path / "m.tflite").write_bytes(two_inputs())
    words = ["convert", str(tmp_path / "m.tflite")]
    assert "needs --out DIR" in CliRunner().invoke(converter_app, words).output
    words += ["--out", str(tmp_path / "out")]
    assert "leave out the compiled engine's" in CliRunner().invoke(converter_app, [*words, "--ram-budget", "0"]).output

    def absent(*_: object) -> None:
        raise Unavailable("the package tflite-micro is not installed")

    monkeypatch.setattr(tflm_only, "ask", absent)
    done = CliRunner().invoke(converter_app, words)
    assert done.exit_code == 1 and "got 2 and 1" in done.output and "tflite-micro is not installed" in done.output
    assert original.MICRO == ("tflite-micro", "tflite_micro") and not (tmp_path / "out").exists()


def test_the_host_says_what_it_needs(converted: Callable[[str], Path], tmp_path: Path) -> None:
    folder = converted("mean")
    done = CliRunner().invoke(host_app, ["build", str(folder)])
    assert done.exit_code == 1 and "TensorFlow Lite Micro only" in done.output and "--tflm-source" in done.output
    with pytest.raises(BoardError, match=r"third_party/flatbuffers; wanted are"):
        copy_tflm(tmp_path, folder / "kws_model.h", tmp_path / "place")


def test_inputs_of_any_type(tmp_path: Path) -> None:
    records = [
        Record("id", ("none", "0123456789ab", "m")),
        Record("firmware", ("0.1.0", "2", "tflm", "board", "64000000")),
        Record("network", ("8", "4", "3")),
        TENSOR,
        Record("tensor", ("output", "float32", "1x1", "4", "0", "0")),
    ]
    tensors = Identity.of(records).tensors
    np.save(tmp_path / "x.npy", np.arange(4, dtype=np.int16))
    assert read_wire(tmp_path / "x.npy", tensors) == bytes([0, 0, 1, 0, 2, 0, 3, 0])
    np.save(tmp_path / "x.npy", np.arange(8, dtype=np.int8))
    with pytest.raises(HostError, match=r"must hold int16 1x4, got int8"):
        read_wire(tmp_path / "x.npy", tensors)
    (tmp_path / "x.bin").write_bytes(bytes(7))
    with pytest.raises(HostError, match=r"takes int16 1x4, 8 bytes, got 7"):
        read_wire(tmp_path / "x.bin", tensors)
    with pytest.raises(HostError, match="do not take"):
        Identity.of(records[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_board_gives_the_interpreters_bytes(name: str, converted: Callable[[str], Path], tmp_path: Path) -> None:
    if not (source := os.environ.get("KWS_TFLM_SOURCE")):
        pytest.skip("no sources of TensorFlow Lite Micro: set KWS_TFLM_SOURCE to a folder of them")
    elf = build_firmware(converted(name), tmp_path, Path(source))
    checked = CliRunner().invoke(converter_app, ["verify", str(converted(name)), "--elf", str(elf)])
    assert checked.exit_code == 0, checked.output
    model = tflm(name)
    status, count = "within the rule" if model.has_floats else "equal", 5 * len(model.outputs)
    assert f"{status}  board == TensorFlow Lite Micro, every output: {count} outputs, 0 different" in checked.output


def damaged(scale: float = 0.1, zero: int = 0, held: int = 3) -> bytes:
    """A sum of two inputs and a constant that may hold less than its shape says."""
    file = TfliteFile()
    x, z, y = file.tensor((1, 3)), file.tensor((1, 3), (scale, zero)), file.tensor((1, 3), (0.2, 7))
    sizes = file.constant(np.array([1, 3, 1], np.int32))
    name, shape, kind, quant, data = file.tensors[sizes]
    file.tensors[sizes] = name, shape, kind, quant, data[: 4 * held]
    file.operator("ADD", [x, z], [y], 11)
    return file.file([z, x], [y])


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (damaged(scale=float("nan")), "no positive number"),
        (damaged(scale=0.0), "no positive number"),
        (damaged(zero=300), r"-128\.\.127"),
        (damaged(held=2), r"constant int32 of shape \[3\] holds 8 bytes"),
    ],
)
def test_what_no_converter_writes_is_refused(file: bytes, says: str) -> None:
    assert read_tflm_only("m", damaged(), "because").layers == 1
    with pytest.raises(ConvertError, match=says):
        read_tflm_only("m", file, "because")


def test_a_damaged_model_of_this_project_is_no_model_for_the_interpreter(tmp_path: Path) -> None:
    graph = conversion.load(Path(__file__).resolve().parents[2] / "reference").graph
    (tmp_path / "m.tflite").write_bytes(write_tflite(replace(graph, spec_json='{"labels": 5}')))
    done = CliRunner().invoke(converter_app, ["convert", str(tmp_path / "m.tflite"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1 and "KwsSpec" in done.output and "compiles or is damaged" in done.output
    assert not (tmp_path / "out" / "kws_model.h").exists()
