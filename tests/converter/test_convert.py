"""converter convert and size: generated files, their bytes, the board's shares, and errors in one sentence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qdq_models import SPEC, tinyconv
from random_layers import random_graph

from converter import convert as conversion
from converter.aot.model_header import peak_activation_bytes, render_kws_header, tflm_arena_bytes
from converter.errors import ConvertError
from converter.onnx_qdq.reader import read_onnx
from converter.run_folder import ModelArtifact
from converter.size import FLASH_BYTES, RAM_BYTES, model_size
from converter.spec import DetectorSpec, KwsSpec
from converter.tflite.reader import read_tflite
from converter.tflite.writer import write_tflite

ROOT = Path(__file__).resolve().parents[2]
FILES = {"model.tflite", "model_data.c", "model_data.h", "model_aot.c", "model_aot.h", "kws_model.h"}
DETECTOR = DetectorSpec((150, -40), rates=((0.5, (300, 310)), (2.0, (150, -40))))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(tinyconv())
    ModelArtifact(folder, SPEC, DETECTOR, "tinyconv", "synthetic").save()
    return folder


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "converter", *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def macros(header: str) -> dict[str, str]:
    return dict(re.findall(r"^#define KWS_(\w+)(?:\(r\))? (.*)$", header, re.MULTILINE))


def test_convert_a_run_folder_writes_every_file_reproducibly(run: Path, tmp_path: Path) -> None:
    done = command("convert", run)
    assert done.returncode == 0, done.stderr
    written = {file.name: file.read_bytes() for file in (run / "firmware").iterdir()}
    assert set(written) == FILES | {"frontend_tables.h"}
    assert command("convert", run, "--out", tmp_path / "again").returncode == 0
    assert {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()} == written
    for name, data in written.items():
        assert name == "model.tflite" or data.startswith(b"// Made by")
        assert str(tmp_path).encode() not in data
    found = macros(written["kws_model.h"].decode())
    graph = read_onnx((run / "model.onnx").read_bytes())
    assert found["MODEL_ID"] == f'"{graph.model_id}"' and found["SPEC_ID"] == f'"{SPEC.spec_id}"'
    assert (found["DETECT_THRESHOLDS"], found["DETECT_SETTLE_FRAMES"]) == ("{150, -40}", "75")
    assert (found["DETECT_RATE_COUNT"], found["DETECT_RATES"]) == ("2", "{{500u, {300, 310}}, {2000u, {150, -40}}}")
    assert found["LABEL_NAMES"] == '{"silence", "unknown", "yes", "stop"}'
    assert (found["INPUT_BYTES"], found["FRAMES"], found["CHANNELS"], found["HAS_FRONTEND"]) == (
        "1960",
        "49",
        "40",
        "1",
    )
    assert read_tflite(written["model.tflite"]).model_id == graph.model_id


def test_foreign_model_has_no_front_end_and_takes_an_old_one_away(tmp_path: Path) -> None:
    (tmp_path / "foreign.tflite").write_bytes(write_tflite(random_graph(2)))
    out = tmp_path / "out"
    out.mkdir()
    (out / "frontend_tables.h").write_text("of another model")
    assert command("convert", tmp_path / "foreign.tflite", "--out", out).returncode == 0
    assert {file.name for file in out.iterdir()} == FILES
    found = macros((out / "kws_model.h").read_text())
    assert (found["SPEC_ID"], found["HAS_FRONTEND"], found["MODEL_NAME"]) == ('"none"', "0", '"foreign"')


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
def test_generated_c_holds_the_tflite_bytes_and_float_literals_read_back(run: Path, tmp_path: Path) -> None:
    assert command("convert", run).returncode == 0
    (tmp_path / "main.c").write_text(
        '#include <stdint.h>\n#include <stdio.h>\n#include "kws_model.h"\n#include "model_data.h"\n'
        "int main(void) { const float scales[2] = {KWS_INPUT_SCALE, KWS_OUTPUT_SCALE}; fwrite(scales, 4, 2, stdout);\n"
        " fwrite(kws_model_data, 1, kws_model_data_bytes, stdout); return (int)((uintptr_t)kws_model_data % 16); }\n"
    )
    build = [
        "gcc",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{run / 'firmware'}",
        str(tmp_path / "main.c"),
        str(run / "firmware/model_data.c"),
    ]
    subprocess.run([*build, "-o", str(tmp_path / "main")], check=True)
    output = subprocess.run([str(tmp_path / "main")], check=True, capture_output=True).stdout
    assert output[8:] == (run / "firmware" / "model.tflite").read_bytes()
    assert np.frombuffer(output[:8], "<f4").tolist() == [26 / 256, 1 / 256]


@pytest.mark.parametrize("value", [1e-9, 3.3e-5, 0.1, 1 / 3, 17.25, 1e8])
def test_float_literals_name_one_float32(value: float) -> None:
    from converter.aot.model_header import _float

    literal = _float(float(np.float32(value)))
    assert literal.endswith("f") and np.float32(float(literal[:-1])) == np.float32(value)
    assert any(mark in literal for mark in ".e")


def test_size_of_tinyconv_is_the_course_works(run: Path) -> None:
    """Rows A3 and A4 of the requirements: 16,652 parameters, 336,000 MAC, 676,004 operations, 65.05 KiB of fp32
    weights."""
    table = command("size", run, "--json", run / "size.json").stdout
    found = json.loads((run / "size.json").read_text())
    assert (found["parameters"], found["macs"], found["operations"]) == (16_652, 336_000, 676_004)
    assert found["fp32_flash_bytes"] == 66_608 and round(found["fp32_flash_bytes"] / 1024, 2) == 65.05
    assert found["activation_elements"] == 1_960 + 4_000 + 4
    assert found["int8_flash_bytes"] == 640 + 16_000 + 4 * 12
    assert found["int8_ram_bytes"] >= 1_960 + 4_000 and found["fp32_ram_bytes"] == 4 * found["int8_ram_bytes"]
    assert (found["board_flash_bytes"], found["board_ram_bytes"]) == (FLASH_BYTES, RAM_BYTES) == (1_048_576, 262_144)
    assert "676,004" in table and "65.05" in table and "6.35% of 1 MB" in table


def test_sizes_count_every_kind_of_layer() -> None:
    for index in range(10):
        graph = random_graph(index)
        size = model_size(graph)
        assert size.tflite_bytes == len(write_tflite(graph)) and len(size.layers) == len(graph.layers)
        assert size.operations >= 2 * size.macs
        assert tflm_arena_bytes(graph) > peak_activation_bytes(graph) >= max(t.size for t in graph.tensors)


def test_errors_are_one_sentence_and_leave_nothing_behind(run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"TFL3" * 20)
    (tmp_path / "cut.onnx").write_bytes(tinyconv()[:-4000])
    (tmp_path / "model.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for words in (
        ("broken.tflite", "--out", out),
        ("cut.onnx", "--out", out),
        ("model.txt", "--out", out),
        ("absent.onnx", "--out", out),
        ("empty", "--out", out),
    ):
        done = command("convert", tmp_path / words[0], *words[1:])
        assert done.returncode == 1 and not done.stdout
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        assert not out.exists()
    done = command("convert", run / "model.onnx")
    assert done.returncode == 1 and "--out" in done.stderr


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    conversion.write_all({"a.h": b"old a", "b.h": b"old b"}, out)
    (out / "c.h").mkdir()
    with pytest.raises(ConvertError, match="cannot be written"):
        conversion.write_all({"a.h": b"new a", "no/such/folder.h": b"new b"}, out)
    assert (out / "a.h").read_bytes() == b"old a" and {file.name for file in out.iterdir()} == {"a.h", "b.h", "c.h"}


def test_a_run_of_another_spec_is_refused(run: Path) -> None:
    other = KwsSpec.of_words(["yes", "go"])
    ModelArtifact(run, other, DetectorSpec.untuned(len(other.words)), "tinyconv", "synthetic").save()
    done = command("convert", run)
    assert done.returncode == 1 and SPEC.spec_id in done.stderr and other.spec_id in done.stderr


def test_labels_beyond_ascii_are_escaped() -> None:
    from converter.aot.model_header import _string

    assert _string('a"b\\?') == '"a\\042b\\134\\077"' and _string("é") == '"\\303\\251"'
    assert "KWS_HAS_FRONTEND 0" in render_kws_header(random_graph(0), "x")
