"""MLPerf Tiny's DS-CNN on the virtual board, driven as the benchmark's own runner does it, outputs equal to the
reference."""

from __future__ import annotations

import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from protocol_session import Wire

from converter import convert, reference
from converter.arrays import Int8
from host.emulator.session.launcher import launch
from host.firmware_build import build_firmware
from host.link.client import connect
from host.link.expected import load_model
from host.measure.infer import compare_layers

VECTORS = 200


@pytest.fixture(scope="module")
def kws_model(mlperf_tiny: Path) -> Path:
    return mlperf_tiny / "models" / "kws_ref_model.tflite"


@pytest.fixture(scope="module")
def inputs(mlperf_tiny: Path) -> Int8:
    with np.load(mlperf_tiny / "kws_mfcc_int8.npz") as vectors:
        found: Int8 = vectors["x"][:VECTORS]
    return found


@pytest.fixture(scope="module")
def elf(kws_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    folder = tmp_path_factory.mktemp("dscnn")
    convert.write_all(convert.render(convert.load(kws_model)), folder / "model")
    return build_firmware(folder / "model", folder / "build")


def test_runner_conversation(elf: Path, kws_model: Path, inputs: Int8) -> None:
    """name, profile, download in lines of 31 bytes, infer 10 1: the runner's own patterns find what they look for."""
    graph = load_model(kws_model).graph
    with launch(elf) as url:
        wire = Wire(url)
        assert [re.sub("[0-9]+", "N", line) for line in wire.reply()] == [
            "m-timestamp-mode-performance",
            "m-lap-us-N",
            "m-init-done",
            "m-ready",
        ]
        assert any(re.match(r"^m-(name)-dut-\[([^]]+)]$", line) for line in wire.ask("name%"))
        matches = [re.match(r"^m-(model|profile)-\[([^]]+)]$", line) for line in wire.ask("profile%")]
        found = {match[1]: match[2] for match in matches if match}
        assert found == {"model": "kws01", "profile": "ULPMark for tinyML Firmware V0.0.1"}
        data = inputs[0].tobytes()
        wire.ask(f"db load {len(data)}%")
        replies = [wire.ask(f"db {data[at : at + 31].hex()}%") for at in range(0, len(data), 31)]
        assert replies[-1] == ["m-load-done", "m-ready"] and all(reply == ["m-ready"] for reply in replies[:-1])
        lines = wire.ask("infer 10 1%")
        wire.socket.close()
    laps = [int(match[1]) for line in lines if (match := re.match(r"^m-lap-us-([0-9]+)$", line))]
    results = [match[1] for line in lines if (match := re.match(r"^m-results-\[([^]]+)\]$", line))]
    assert [line for line in lines if not line.startswith(("m-lap", "m-results"))] == [
        "m-warmup-start-1",
        "m-warmup-done",
        "m-infer-start-10",
        "m-infer-done",
        "m-ready",
    ]
    assert len(laps) == 2 and 100_000 < laps[1] - laps[0] < 20_000_000
    output = reference.run(graph, inputs[0].reshape(1, 49, 10, 1))[graph.output].ravel()
    assert len(results) == 1 and results[0] == ",".join(f"{(int(value) + 128) / 256:.3f}" for value in output)


def test_outputs_equal_the_reference(elf: Path, kws_model: Path, inputs: Int8) -> None:
    """CRC of every layer and of the output, for each vector."""
    model = load_model(kws_model)
    expected = reference.run_batch(model.graph, inputs.reshape(-1, 49, 10, 1)).reshape(len(inputs), -1)
    with connect(str(elf)) as board:
        for values, wanted in zip(inputs, expected, strict=True):
            board.load_input(values.tobytes())
            layers, output = board.layers()
            assert all(pair.equal for pair in compare_layers(model, values.reshape(-1), layers))
            assert zlib.crc32(np.array(output, np.int8).tobytes()) == zlib.crc32(wanted.tobytes())
