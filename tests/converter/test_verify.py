"""converter verify: it runs what is here, says what is not, and names the first difference when an engine is made
wrong."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
from qdq_models import SPEC, tinyconv
from random_layers import random_graph
from typer.testing import CliRunner

from converter import convert as conversion
from converter import reference
from converter.__main__ import app
from converter.aot import native as aot_native
from converter.arrays import Int8
from converter.audio.frontend import MicroFrontend, load_wheel
from converter.compiler import find_compiler
from converter.errors import ConvertError
from converter.graph import Graph
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec
from converter.tflite.interpreters import Unavailable
from converter.tflite.writer import write_tflite
from converter.verify import board as verify_board
from converter.verify import engines
from converter.verify import frontend as verify_frontend
from converter.verify import run as verify
from converter.verify.checks import ABSENT, DIFFERENT, EQUAL, WITHIN, Check, Checks
from host.measure.board_checks import BOARD_ACCESS

CLIPS = 6


def vectors(model: bytes) -> dict[str, Any]:
    """What `trainer export` writes, with onnxruntime in the place of PyTorch: float evaluation of the Q/DQ nodes."""
    rng = np.random.default_rng(11)
    pcm = np.clip(rng.normal(0, 1, (CLIPS, 16000)) * np.geomspace(10, 8000, CLIPS)[:, None], -32768, 32767).astype(
        np.int16
    )
    front_end = MicroFrontend(SPEC.features)
    features = []
    for clip in pcm:
        front_end.reset()
        features.append(front_end.features(clip))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = onnx.load_model_from_string(model)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("logits_real", onnx.TensorProto.FLOAT, None))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("conv_q", onnx.TensorProto.INT8, None))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    real = [(f.astype(np.float32) + 128) * np.float32(26 / 256) for f in features]
    answers = [session.run(["logits_real", "conv_q"], {"x": r.reshape(1, 1, 49, 40)}) for r in real]
    conv = np.concatenate([np.asarray(answer[1]).transpose(0, 2, 3, 1) for answer in answers])
    logits = np.concatenate([np.asarray(answer[0]) for answer in answers])
    return {
        "pcm": pcm,
        "features": np.stack(features),
        "labels": np.zeros(CLIPS, np.int64),
        "logits": logits,
        "layer:conv_q": conv,
        "names": np.array([f"clip{i}" for i in range(CLIPS)]),
    }


@pytest.fixture(scope="module")
def made() -> tuple[bytes, dict[str, Any]]:
    model = tinyconv()
    return model, vectors(model)


@pytest.fixture
def run(tmp_path: Path, made: tuple[bytes, dict[str, Any]]) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(made[0])
    np.savez_compressed(folder / "vectors.npz", **made[1])
    ModelArtifact(folder, SPEC, DetectorSpec.untuned(2), "tinyconv", "synthetic").save()
    conversion.write_all(conversion.render(conversion.load(folder)), folder / "firmware")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of other checks: compiling takes longest."""

    def absent(given: object) -> Check:
        raise Unavailable("left out of this test")

    monkeypatch.setattr(verify_board, "board", absent)
    monkeypatch.setattr(verify_board, "listening", absent)
    monkeypatch.setattr(engines, "NativeModel", lambda graph, folder, simd: absent(graph))


def by_claim(checks: Checks, start: str) -> Check:
    return next(check for check in checks.checks if check.claim.startswith(start))


def test_every_check_that_is_here_is_equal(run: Path) -> None:
    heard: list[str] = []
    checks = verify.run_checks(run, 1000, board=BOARD_ACCESS, on_progress=heard.append)
    assert heard == ["inputs", *(check.claim for check in checks.checks)] and len(heard) == 12
    for check in checks.checks:
        assert check.status in (EQUAL, WITHIN) or (check.status == ABSENT and check.detail and not check.checked), check
    native = by_claim(checks, "portable C")
    if shutil.which("gcc"):
        assert native.checked == 3 * (CLIPS + verify.NOISE_INPUTS) and "6 recorded, 50 noise" in native.unit
        stream = by_claim(checks, "streaming")
        hops = ((CLIPS + verify.NOISE_INPUTS) * 49 - 49) // 2
        assert stream.status == EQUAL and stream.checked == hops * (1 + 3) and f"{2 * hops} frames" in stream.unit
    assert by_claim(checks, "ids").checked == 3 + 7
    fake = by_claim(checks, "PyTorch")
    assert fake.status == WITHIN and fake.checked == CLIPS
    assert re.search(r"conv_q (9\d|100)\.", fake.detail), fake.detail
    if shutil.which("arm-none-eabi-gcc"):
        board = by_claim(checks, "emulated board")
        assert board.status == EQUAL and board.checked == 5 * 3 + 1
        assert by_claim(checks, "listening").checked > 20


def test_the_command_writes_the_checks_and_exits_1_on_a_difference(run: Path, quick: None) -> None:
    good = CliRunner().invoke(app, ["verify", str(run), "--inputs", "2", "--json", str(run / "checks.json")])
    assert good.exit_code == 0 and "Equivalence checks" in good.stdout
    assert json.loads((run / "checks.json").read_text())["differs"] is False
    (run / "firmware" / "model_aot.c").write_text("// another model\n")
    bad = CliRunner().invoke(app, ["verify", str(run), "--inputs", "2", "--json", str(run / "checks.json")])
    assert bad.exit_code == 1 and "model_aot.c" in bad.stderr and bad.stderr.count("\n") == 1
    assert json.loads((run / "checks.json").read_text())["differs"] is True


@pytest.mark.parametrize("content", [b"", b"not an ELF", None])
def test_an_image_that_does_not_run_is_one_sentence(run: Path, content: bytes | None) -> None:
    if content is not None:
        (run / "firmware.elf").write_bytes(content)
    with (
        pytest.raises(ConvertError, match=r"firmware\.elf") as error,
        verify.prepared(run, 2, run / "firmware.elf", board=BOARD_ACCESS) as given,
    ):
        verify_board.board(given)
    assert "Traceback" not in str(error.value)


def test_a_stale_generated_file_is_a_difference_and_named(run: Path) -> None:
    file = run / "firmware" / "model_aot.c"
    file.write_text(file.read_text().replace("CONV", "C0NV").replace("nn_", "mm_"))
    with verify.prepared(run, 2) as given:
        check = engines.identities(given)
    assert check.status == DIFFERENT and check.differences == 1
    assert re.search(r"firmware/model_aot\.c", check.detail)


def test_missing_parts_are_said_never_passed(run: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aot_native, "find_compiler", lambda: None)
    monkeypatch.setattr(verify_frontend, "load_wheel", lambda: None)
    for package in ("onnxruntime", "tflite_micro", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, package, None)
    (run / "vectors.npz").unlink()
    checks = verify.run_checks(run, 10, None)
    absent = [check for check in checks.checks if check.status == ABSENT]
    assert len(absent) == 10 and all(check.detail and check.checked == 0 for check in absent)
    assert not checks.differs
    text = "\n".join(verify.lines(checks))
    assert text.count("not available here") == 10 and "passed" not in text


def _one_off(graph: Graph, x: Int8) -> list[Int8]:
    tensors = [tensor.copy() for tensor in _REAL(graph, x)]
    tensors[1][2, 3, 4, 5] ^= 1  # input 2, one value of the convolution's output
    return tensors


_REAL = reference.run_batch_all


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
def test_the_first_difference_is_named_with_both_values(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = conversion.load(run)
    inputs = np.concatenate([np.load(run / "vectors.npz")["features"].reshape(-1, 49, 40, 1)])
    right = int(_REAL(source.graph, inputs)[1][2, 3, 4, 5])
    monkeypatch.setattr(reference, "run_batch_all", _one_off)
    with verify.prepared(run, 1000) as given:
        check = engines.native(given, simd=False)
    assert check.status == DIFFERENT and check.differences == 1
    index = (3 * 20 + 4) * 8 + 5
    assert check.detail == f"layer conv, input 2, index {index}: C {right}, reference {right ^ 1}"


def test_moved_logits_break_the_fake_quant_check(run: Path, made: tuple[bytes, dict[str, Any]]) -> None:
    moved = {**made[1], "logits": made[1]["logits"].copy()}
    quant = conversion.load(run).graph.tensors[2].quant
    moved["logits"][3, 0] += 2 * quant.scale * (-1 if moved["logits"][3, 0] > 0 else 1)
    np.savez_compressed(run / "vectors.npz", **moved)
    with verify.prepared(run, 1000) as given:
        check = engines.fake_quant(given)
    assert check.status == DIFFERENT and check.differences == 1 and check.detail.startswith("input 3: ")


def test_roundings_that_add_up_are_judged_layer_by_layer(
    run: Path, made: tuple[bytes, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps apart at the end, and each layer one step apart, or two."""
    tensor, logits = conversion.load(run).graph.tensors[2], made[1]["logits"].copy()
    logits[3, 0] += 2 * tensor.quant.scale * (-1 if logits[3, 0] > 0 else 1)
    last = np.rint(logits / tensor.quant.scale) + tensor.quant.zero_point
    kept = {f"layer:{tensor.name}": np.clip(last, -128, 127).astype(np.int8)}
    moved = {**made[1], "logits": logits, **kept}
    np.savez_compressed(run / "vectors.npz", **moved)
    for steps, status in ((1, WITHIN), (2, DIFFERENT)):
        monkeypatch.setattr(engines, "_steps_apart", lambda _, steps=steps: np.full(CLIPS, steps))
        with verify.prepared(run, 1000) as given:
            check = engines.fake_quant(given)
        assert (check.status, check.differences) == (status, steps - 1) and "1 rows further apart" in check.detail


def test_other_features_break_the_front_end_check(run: Path, made: tuple[bytes, dict[str, Any]]) -> None:
    if load_wheel() is None or find_compiler() is None:
        pytest.skip("the front end's oracle or a C compiler is missing")
    other = {**made[1], "features": made[1]["features"].copy()}
    other["features"][0, 7, 9] ^= 1
    np.savez_compressed(run / "vectors.npz", **other)
    with verify.prepared(run, 1000) as given:
        check = verify_frontend.front_end(given)
    assert check.status == DIFFERENT and f"index {7 * 40 + 9}" in check.detail


@pytest.mark.parametrize("damage", ["not a zip", "truncated", "other model", "no pcm"])
def test_damaged_vectors_are_one_sentence(run: Path, damage: str, made: tuple[bytes, dict[str, Any]]) -> None:
    file = run / "vectors.npz"
    if damage == "not a zip":
        file.write_bytes(b"hello")
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:2000])
    elif damage == "other model":
        np.savez_compressed(file, **{**made[1], "features": made[1]["features"][:, :40]})
    else:
        np.savez_compressed(file, **{name: values for name, values in made[1].items() if name != "pcm"})
    with pytest.raises(ConvertError, match=r"vectors\.npz"):
        verify.run_checks(run, 10, None)


def test_a_foreign_model_is_checked_with_noise_alone(tmp_path: Path, quick: None) -> None:
    file = tmp_path / "foreign.tflite"
    file.write_bytes(write_tflite(random_graph(6)))
    checks = verify.run_checks(file, 10, None)
    assert checks.spec_id == "none" and not checks.differs
    assert by_claim(checks, "C front end").status == ABSENT
    data = verify.to_json(checks)
    assert json.loads(json.dumps(data))["checks"][0]["claim"] == checks.checks[0].claim


def test_recordings_of_a_folder_join_the_inputs(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "audio" / "yes"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for index, count in enumerate((16000, 9000, 40000)):  # a clip, a shorter one, a longer one
        soundfile.write(
            folder / f"{index}.{'flac' if index else 'wav'}", rng.integers(-9000, 9000, count).astype(np.int16), 16000
        )
    with verify.prepared(run, 1000, audio=folder.parent) as given:
        assert len(given.recorded) == len(given.pcm) == CLIPS + 3 and given.pcm.shape[1] == 16000
        if load_wheel() and find_compiler():
            assert verify_frontend.front_end(given).status == EQUAL
        assert engines.fake_quant(given).checked == CLIPS
    (folder / "stereo.wav").write_bytes(b"RIFF")
    with pytest.raises(ConvertError, match=r"stereo\.wav"), verify.prepared(run, 1000, audio=folder.parent):
        pass
    with pytest.raises(ConvertError, match=r"holds no"), verify.prepared(run, 1000, audio=run / "firmware"):
        pass
    (tmp_path / "foreign.tflite").write_bytes(write_tflite(random_graph(6)))
    with pytest.raises(ConvertError, match="no spec"), verify.prepared(tmp_path / "foreign.tflite", 10, audio=folder):
        pass


def test_unavailable_is_no_error_of_the_user() -> None:
    assert not issubclass(Unavailable, ConvertError)
