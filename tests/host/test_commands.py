"""The host's commands against the real sketch (compiled for this machine): figures, equality, refusals in one
sentence."""

from __future__ import annotations

import doctest
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from host_cli import Cli, Result, refusal, sound, wav
from relay import relay
from rich.console import Console
from sketch_on_host import DETECTOR, ROOT, SPEC, build, running, tinyconv, write_model

import host.__main__ as commands
import host.link.client as board_module
import host.link.detector as detector_module
import host.link.protocol as protocol_module
import host.measure.profile as profiler_module
import host.measure.trial as trial_module
import host.measure.tune as tune_module
from converter import reference
from converter.arrays import Int8
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec
from converter.tflite.writer import write_tflite
from host.errors import HostError
from host.link.client import Board
from host.link.expected import COMMITTED, Decision, Model, listen, load_model, model_of_board
from host.link.protocol import Heard, Identity, Run
from host.measure.monitor import View
from host.measure.profile import Stage
from host.measure.trial import expected_label, recordings

FAST = ("-O2", "-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def program(folder: Path) -> Path:
    return build(folder / "build", write_model(folder / "model", tinyconv()), FAST)


@pytest.fixture(scope="module")
def foreign_program(folder: Path) -> Path:
    return build(folder / "foreign_build", write_model(folder / "foreign", tinyconv(2, None)), FAST)


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    (folder / "own.tflite").write_bytes(write_tflite(tinyconv()))
    return folder / "own.tflite"


@pytest.fixture
def port(program: Path) -> Iterator[str]:
    with running(program) as url:
        yield url


def test_profile(cli: Cli, port: str, tmp_path: Path) -> None:
    result = cli("profile", port, "--runs", 7, "--layers", "--json", tmp_path / "p.json")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "p.json").read_text())
    assert [stage["name"] for stage in found["stages"]] == [
        "pre (window)",
        "pre (slice)",
        "pre",
        "inference",
        "inference (stream)",
        "post",
    ]
    assert [stage["n"] for stage in found["stages"]] == [7] * 6
    assert all(stage["min_us"] <= stage["mean_us"] <= stage["max_us"] for stage in found["stages"])
    assert found["modelled"] is True and found["identity"]["model_id"] == tinyconv().model_id
    assert len(found["layers"]) == 4 and len(found["uncached"]) == 6
    assert all(word in result.out for word in ("modelled", "inference", "post", "conv", "flash", "uncached"))


def test_stage_statistics_are_of_single_records() -> None:
    stage = Stage.of("x", "y", [64, 640, 64, 6400], [0, 1, 0, 5], 64_000_000)
    assert (stage.n, stage.min_us, stage.max_us, stage.mean_us) == (4, 1.0, 100.0, 28.0)
    assert (stage.min_ms, stage.max_ms, stage.mean_ms, stage.mean_cycles) == (0, 5, 1.5, 1792.0)


def test_runs_arrive_one_by_one(port: str) -> None:
    seen: list[Run] = []
    with Board(port) as board:
        board.load_pcm(sound(0.3))
        assert board.runs(20, seen.append) == seen
    assert len(seen) == 20 and all(run.slices == DETECTOR.hop_frames for run in seen)
    assert all(run.slice_cycles <= run.pre_cycles for run in seen)


def test_infer_recording_and_input_files(cli: Cli, port: str, model: Path, tmp_path: Path) -> None:
    recording = wav(tmp_path / "sound.wav", sound(0.7))
    result = cli("infer", port, recording, "--layers", "--run", model, "--json", tmp_path / "i.json")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "i.json").read_text())
    assert found["differences"] == 0 and found["features_equal"] is True and len(found["comparisons"]) == 4
    assert "NO" not in result.out


def test_infer_int8_inputs_equal_the_reference(port: str, model: Path, tmp_path: Path) -> None:
    from host.measure.infer import infer

    graph = tinyconv()
    inputs = np.random.default_rng(5).integers(-128, 128, (4, 49, 40, 1)).astype(np.int8)
    np.save(tmp_path / "x.npy", inputs[0])
    (tmp_path / "x.bin").write_bytes(inputs[1].tobytes())
    with Board(port) as board:
        for file, values in ((tmp_path / "x.npy", inputs[0]), (tmp_path / "x.bin", inputs[1])):
            answer = infer(board, file, load_model(model))
            expected = reference.run(graph, values[None])[graph.output].ravel()
            assert answer.differences == 0 and answer.output == tuple(expected.tolist())
            assert answer.results == pytest.approx((expected.astype(int) + 128) / 256, abs=0.0005)


def test_a_layer_that_differs_is_named(
    cli: Cli, port: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = reference.run

    def damaged(graph: object, x: object) -> list[Int8]:
        tensors = original(graph, x)  # type: ignore[arg-type]
        tensors[3] = tensors[3] + np.int8(1)
        return tensors

    monkeypatch.setattr(reference, "run", damaged)
    result = cli("infer", port, wav(tmp_path / "sound.wav", sound(0.7)), "--run", model)
    assert "layer 2 (dense) is the first that differs" in refusal(result)


def test_stream_equals_the_host(cli: Cli, port: str, model: Path, tmp_path: Path) -> None:
    recording = wav(tmp_path / "long.wav", sound(6.0, 3))
    result = cli("stream", port, recording, "--run", model, "--json", tmp_path / "s.json")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["compared"] and found["different"] == 0 and len(found["heard"]) == 149
    assert found["words"], "no word was heard, so decisions were not tried"
    assert len({tuple(item["scores"]) for item in found["heard"]}) > 20


@pytest.mark.parametrize("samples", [1, 319, 320, 640, 959, 16000, 16161, 20000, 48000])
def test_streams_of_any_length_equal_the_host(port: str, model: Path, samples: int) -> None:
    pcm = sound(3.0, 9)[:samples]
    pcm[6400 : samples // 2] = 0  # digital silence travels as a count
    with Board(port) as board:
        heard = [Decision.of(item) for item in board.stream(pcm)]
        assert heard == listen(load_model(model), board.identity, pcm)


def test_microphone_equals_the_host(program: Path, model: Path, tmp_path: Path) -> None:
    pcm = sound(3.0, 4)
    (tmp_path / "mic.raw").write_bytes(pcm.tobytes())
    with running(program, KWS_MIC=str(tmp_path / "mic.raw")) as url, Board(url) as board:
        heard = list(board.listen(60))
        assert [Decision.of(item) for item in heard] == listen(load_model(model), board.identity, pcm)[:60]
        assert {item.lost for item in heard} == {0}
        again = board.listen(0)
        assert next(again).index == 0
        again.close()  # sends stop and reads to its end
        assert board.memory().flash == 100000


def test_lost_audio_is_reported(program: Path, tmp_path: Path) -> None:
    (tmp_path / "mic.raw").write_bytes(sound(1.0).tobytes())
    with running(program, KWS_MIC=str(tmp_path / "mic.raw"), KWS_MIC_LOST="77") as url, Board(url) as board:
        assert {item.lost for item in board.listen(3)} == {77}


def test_monitor(cli: Cli, program: Path, tmp_path: Path) -> None:
    (tmp_path / "mic.raw").write_bytes(sound(3.0, 4).tobytes())
    with running(program, KWS_MIC=str(tmp_path / "mic.raw")) as url:
        result = cli("monitor", url, "--inferences", 60)
    assert result.code == 0, result.err
    assert "60 inferences" in result.out and "yes" in result.out and "modelled" in result.out


BOARD_COMMANDS = (
    "profile PORT --runs 5 --layers",
    "monitor PORT --inferences 20",
    "tune PORT --thresholds 100,-100",
    "infer PORT WAV",
    "stream PORT WAV --no-compare",
    "trial PORT WAV --times 2 --run MODEL",
    "compare MODEL --port PORT --runs 1",
)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
@pytest.mark.parametrize("command", BOARD_COMMANDS)
def test_a_line_that_breaks_or_floods_anywhere_is_one_sentence(
    cli: Cli, program: Path, model: Path, tmp_path: Path, command: str
) -> None:
    """After so many bytes of the real board's replies, at random places but the same ones each time."""
    (tmp_path / "mic.raw").write_bytes(sound(3.0, 4).tobytes())
    files = {"WAV": wav(tmp_path / "s.wav", sound(0.16, 3)), "MODEL": model}

    def run(port: str) -> Result:
        return cli(*(port if word == "PORT" else files.get(word, word) for word in command.split()))

    with running(program, KWS_MIC=str(tmp_path / "mic.raw")) as url:
        for _ in range(2):  # what a board says at its start is gone then
            with relay(url) as line, Board(line.port):
                pass
        known = line.passed  # so many bytes that a host knows whom it speaks to
        with relay(url) as line:
            assert run(line.port).code == 0
        places = random.Random(command)
        for after in places.sample(range(1, line.passed - 30), 4):
            with relay(url, after) as broken:
                assert "the board disappeared" in refusal(run(broken.port)), after
        for after in places.sample(range(known, line.passed - 30), 3):
            with relay(url, after, flood=True) as flooded:
                assert refusal(run(flooded.port)), after


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts kilobytes as Linux does")
def test_a_flood_does_not_grow_memory(port: str) -> None:
    peaks: list[int] = []
    after: int | None = None
    with Board(port):
        pass  # what a board says at its start is gone
    while len(peaks) < 2:
        with relay(port, after, flood=True) as line:
            command = [sys.executable, "-m", "host", "tune", line.port]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as ran:
                _, status, used = os.wait4(ran.pid, 0)
                said = ran.stderr.read().decode() if ran.stderr else ""
            assert os.waitstatus_to_exitcode(status) == len(peaks), said
            peaks.append(used.ru_maxrss)
            after = line.passed - 60  # bytes: within the reply to detector%
    assert "the reply to detector% does not end" in said and line.passed > 100_000
    assert peaks[1] < peaks[0] + (16 << 10)


def test_bars_are_probabilities_whatever_the_output(port: str) -> None:
    """Of scores the mean, of logits the softmax of their mean; without the model where they lie in int8's range."""
    graph = tinyconv()
    logits = replace(graph, layers=graph.layers[:-1], output=graph.layers[-1].input)
    with Board(port) as board:
        identity = board.identity
    shares = []
    for given in (Model(Path("x"), graph, SPEC), Model(Path("x"), logits, SPEC), None):
        view = View(identity, True, given)
        assert view.shares() == [0, 0, 0, 0]
        for outputs in ((-128, -128, 72, -28), (-128, -128, 12, 32)):
            view.add(Heard(0, 2, 1, 1, 1, 0, 0, 0, outputs, None, 0))
        shares.append(view.shares())
        console = Console(width=100, record=True)
        console.print(view.render())
        shown = console.export_text()
        assert "  80 of 60" in shown and "-80 of 60" in shown
    assert shares[0] == pytest.approx([0, 0, 170 / 256, 130 / 256])
    powers = np.exp(0.15 * np.array([-128, -128, 42, 2]))
    assert shares[1] == pytest.approx(powers / powers.sum())
    assert shares[2] == pytest.approx([0, 0, 170 / 255, 130 / 255])


def test_tune(cli: Cli, port: str, model: Path) -> None:
    """Set by rate and by numbers, each shown with what the table says of it; in force for every later listening."""
    pcm = sound(3.0, 4)

    def listens(thresholds: tuple[int, ...]) -> list[int | None]:
        with Board(port) as board:
            assert board.identity.detector == replace(DETECTOR, thresholds=thresholds, rates=())
            heard = [Decision.of(item) for item in board.stream(pcm)]
            assert heard == listen(load_model(model), board.identity, pcm)
        return [item.word for item in heard]

    result = cli("tune", port)
    assert result.code == 0, result.err
    assert "yes 60, stop 60 (of 1020" in result.out and "from 0.5 to 2 an hour" in result.out.replace("\n", " ")
    before = listens((60, 60))
    assert "at most 0.5" in cli("tune", port, "--thresholds", "1020,1020").out.replace("\n", " ")
    assert set(before) > {None} and listens((1020, 1020)) != before
    assert "accepts: 2 an hour" in cli("tune", port, "--false-accepts-per-hour", "2").out.replace("\n", " ")
    assert set(listens((60, -41))) > {None}
    assert "not measured" in cli("tune", port, "--thresholds", "-1020,1020").out.replace("\n", " ")
    listens((-1020, 1020))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--thresholds", "1"), "wants 2 within +-1020, got 1"),
        (("--thresholds", "1,1021"), "wants 2 within +-1020"),
        (("--thresholds", "1,2,3"), "wants 2 within"),
        (("--thresholds", "1, 2"), "whole numbers with commas"),
        (("--thresholds", "1;2"), "whole numbers with commas"),
        (("--thresholds", ""), "whole numbers with commas"),
        (("--false-accepts-per-hour", "0.7"), "has 0.5, 2 false accepts per hour, not 0.7"),
        (("--false-accepts-per-hour", "2", "--thresholds", "1,2"), "name one"),
    ],
)
def test_what_cannot_be_tuned(cli: Cli, port: str, options: tuple[str, ...], says: str) -> None:
    assert says in refusal(cli("tune", port, *options))
    with Board(port) as board:
        assert board.detector() == DETECTOR


def test_no_microphone(cli: Cli, port: str) -> None:
    assert refusal(cli("monitor", port)).endswith("no microphone")


def test_trial(cli: Cli, port: str, model: Path, tmp_path: Path) -> None:
    for index, label in enumerate(("yes", "stop", "_silence_", "no")):
        wav(tmp_path / label / "a.wav", sound(1.0, index))
    result = cli(
        "trial",
        port,
        *(tmp_path / label for label in ("yes", "stop", "_silence_")),
        tmp_path / "no" / "a.wav",
        "--times",
        2,
        "--run",
        model,
        "--json",
        tmp_path / "t.json",
    )
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "t.json").read_text())
    assert [row["expected"] for row in found["attempts"]] == [
        "yes",
        "yes",
        "stop",
        "stop",
        "silence",
        "silence",
        "unknown",
        "unknown",
    ]
    assert found["n"] == 8 and found["different"] == 0
    pairs = list(zip(found["attempts"][::2], found["attempts"][1::2], strict=True))
    assert all(first == second for first, second in pairs), "each attempt starts from a fresh state"
    for row in found["attempts"]:
        assert row["right"] == (row["heard"] == (row["expected"] if row["expected"] in ("yes", "stop") else "-"))


def test_a_gap_shorter_than_the_settling_is_refused(port: str, model: Path) -> None:
    with Board(port) as board, pytest.raises(HostError, match=r"100 samples of silence .* listens after 2560"):
        trial_module.trial_by_microphone(board, [(Path("a.wav"), sound(1.0))], load_model(model), 100)


def test_expected_labels_and_folders(tmp_path: Path) -> None:
    assert expected_label(tmp_path / "hello.wav", SPEC.labels) == "unknown"
    for name in ("take_gr\u00f6\u00dfe2.wav", "gro\u0308\u00dfe/a.wav"):  # composed, and as some file systems write it
        assert expected_label(tmp_path / name, ("silence", "unknown", "gr\u00f6\u00dfe")) == "gr\u00f6\u00dfe"
    with pytest.raises(HostError, match="no WAV or FLAC"):
        recordings([tmp_path])


def test_another_model_is_refused(cli: Cli, port: str, folder: Path, tmp_path: Path) -> None:
    (folder / "other.tflite").write_bytes(write_tflite(tinyconv(9)))
    sentence = refusal(cli("stream", port, wav(tmp_path / "a.wav", sound(1.0)), "--run", folder / "other.tflite"))
    assert tinyconv().model_id in sentence and tinyconv(9).model_id in sentence


def test_foreign_model_has_no_front_end(cli: Cli, foreign_program: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "foreign.tflite").write_bytes(write_tflite(tinyconv(2, None)))
    np.save(tmp_path / "x.npy", np.zeros((49, 40), np.int8))
    recording = wav(tmp_path / "a.wav", sound(1.0))
    for arguments, says in (
        (("infer", "x.npy", "--layers", "--run", folder / "foreign.tflite"), ""),
        (("profile", "--runs", 3), ""),
        (("stream", recording, "--no-compare"), "has no front end"),
        (("infer", recording), "has no front end"),
        (("monitor",), "has no front end"),
        (("tune",), "has no front end"),
    ):
        with running(foreign_program) as url:
            words = [tmp_path / word if word == "x.npy" else word for word in arguments]
            result = cli(words[0], url, *words[1:])
            if says:
                assert says in refusal(result)
            else:
                assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: wav(f / "x.wav", sound(1.0), 8000), "16000 Hz"),
        (lambda f: wav(f / "x.wav", np.stack([sound(1.0)] * 2, 1)), "mono"),
        (lambda f: wav(f / "x.wav", sound(1.0), subtype="FLOAT"), "PCM_16"),
        (lambda f: f / "missing.wav", "no such file"),
    ],
)
def test_bad_recordings(
    cli: Cli, port: str, model: Path, tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    file = make(tmp_path)
    for command in ("infer", "stream", "trial"):
        assert says in refusal(cli(command, port, file, "--run", model))


def test_bad_inputs(cli: Cli, port: str, tmp_path: Path) -> None:
    np.save(tmp_path / "float.npy", np.zeros(1960, np.float32))
    np.save(tmp_path / "short.npy", np.zeros(1959, np.int8))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY broken")
    (tmp_path / "empty.bin").write_bytes(b"")
    for name, says in (
        ("float.npy", "must hold int8, got float32"),
        ("short.npy", "wants 1960 bytes, got 1959"),
        ("broken.npy", "no readable .npy"),
        ("empty.bin", "wants 1960 bytes, got 0"),
        ("none.npy", "no such file"),
    ):
        assert says in refusal(cli("infer", port, tmp_path / name))
    assert "a port alone" in refusal(cli("infer", port))


def test_nothing_is_written_when_a_command_fails(cli: Cli, tmp_path: Path, port: str) -> None:
    assert refusal(cli("infer", port, tmp_path / "none.npy", "--json", tmp_path / "out.json"))
    assert list(tmp_path.iterdir()) == []


def test_compare(cli: Cli, port: str, model: Path, tmp_path: Path) -> None:
    assert cli("profile", port, "--runs", 5, "--json", tmp_path / "p.json").code == 0
    result = cli("compare", model, "--profile", tmp_path / "p.json", "--runs", 20, "--json", tmp_path / "c.json")
    assert result.code == 0, result.err
    rows = json.loads((tmp_path / "c.json").read_text())["timings"]
    board = next(row for row in rows if row["device"] == "board")
    assert board["median_us"] > 0 and "modelled" in board["note"]
    for row in rows:
        if row["median_us"] is None:
            assert row["note"].startswith("not ")
        elif row["device"] != "board":
            assert row["slowdown_of_board"] == pytest.approx(board["median_us"] / row["median_us"])
            assert row["min_us"] <= row["median_us"] <= row["max_us"] and row["n"] == 20


def test_compare_refuses_another_models_profile(cli: Cli, port: str, folder: Path, tmp_path: Path) -> None:
    (folder / "other.tflite").write_bytes(write_tflite(tinyconv(9)))
    assert cli("profile", port, "--runs", 2, "--json", tmp_path / "p.json").code == 0
    assert "profile the board with this model" in refusal(
        cli("compare", folder / "other.tflite", "--profile", tmp_path / "p.json")
    )
    (tmp_path / "broken.json").write_text("{}")
    assert "must be an object with identity" in refusal(
        cli("compare", folder / "other.tflite", "--profile", tmp_path / "broken.json")
    )


def test_report(cli: Cli, port: str, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    ModelArtifact(run, SPEC, DETECTOR, "tinyconv <b>", "synthetic").save()
    wav(tmp_path / "yes" / "a.wav", sound(1.0))
    assert cli("profile", port, "--runs", 3, "--json", tmp_path / "p.json").code == 0
    attempt = {"file": "yes/a.wav", "expected": "yes", "heard": "-", "margin": -17, "right": False}
    attempts = [{**attempt, "inferences": 3, "different": 0}]
    (tmp_path / "t.json").write_text(json.dumps({"attempts": attempts, "right": 0, "n": 1, "different": 0}))
    result = cli("report", run, "--profile", tmp_path / "p.json", "--trial", tmp_path / "t.json")
    assert result.code == 0, result.err
    path, times, sizes, played, following, *commands = result.out.splitlines()
    assert path == str(run / "report.html") and following == "next:" and len(commands) == 3
    assert re.fullmatch(r"modelled, ms: pre [\d.]+, inference [\d.]+, .*post [\d.]+", times)
    assert re.fullmatch(r"needs [\d,]+ B of flash and [\d,]+ B of RAM", sizes)
    assert played == "played to the board: 0 of 1 right, 0 inferences other than the host's"
    page = (run / "report.html").read_text()
    assert (
        "smoke test" in page and "modelled by the virtual board" in page and "0 of 1 right" in page and "<svg" in page
    )
    assert "http" not in page and "<script" not in page and "tinyconv &lt;b&gt;" in page and "tinyconv <b>" not in page
    assert "Not measured" in page
    (tmp_path / "bad.json").write_text("[1")
    assert "no readable JSON" in refusal(cli("report", run, "--trial", tmp_path / "bad.json"))


@pytest.mark.parametrize(
    ("option", "file", "content", "fix"),
    [
        ("", "run/evaluation.json", {"labels": ["yes"], "engines": {}}, "trainer evaluate run"),
        ("", "run/evaluation.json", {"labels": 3}, "trainer evaluate run"),
        ("--profile", "f.json", {"identity": {}}, "host profile PORT --json F"),
        ("--trial", "f.json", {"attempts": [{"file": "a"}]}, "host trial PORT WAVS --json F"),
        ("--compare", "f.json", {"timings": [1]}, "host compare RUN --json F"),
        ("--checks", "f.json", {"checks": {"a": 1}}, "converter verify RUN --json F"),
    ],
)
def test_a_damaged_json_is_one_sentence(
    cli: Cli, tmp_path: Path, option: str, file: str, content: object, fix: str
) -> None:
    (tmp_path / "run").mkdir()
    ModelArtifact(tmp_path / "run", SPEC, DETECTOR, "tinyconv", "synthetic").save()
    (tmp_path / file).write_text(json.dumps(content))
    says = refusal(cli("report", tmp_path / "run", *([option, tmp_path / file] if option else [])))
    assert file in says and f"make it again with `python -m {fix}`" in says


@pytest.mark.parametrize(
    "arguments",
    [("compare", "reference", "--runs", 1, "--json"), ("report", "reference", "--out"), ("packed", "--out")],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    cli: Cli, tmp_path: Path, arguments: tuple[object, ...]
) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(cli(*arguments, tmp_path / "file" / "y.json"))
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_missing_run_folder(cli: Cli, tmp_path: Path) -> None:
    assert "no artifact.json" in refusal(cli("report", tmp_path))
    assert refusal(cli("compare", tmp_path / "none"))


def test_slow_engine_listens_at_its_own_hop_and_from_power_up(folder: Path, model: Path, tmp_path: Path) -> None:
    """Five frames a hop: the average spans the same time, the host follows; listening at power-up says nothing and ends
    by itself."""
    slow = build(folder / "slow_build", write_model(folder / "slow_model", tinyconv()), FAST, ("-DKWS_HOP_FRAMES=5",))
    pcm = sound(3.0, 4)
    (tmp_path / "mic.raw").write_bytes(pcm.tobytes())
    with running(slow, KWS_MIC=str(tmp_path / "mic.raw")) as url, Board(url) as board:
        assert board.identity.detector is not None
        # a quarter of the model's average, so a quarter of its thresholds, rounded towards zero
        shrunk = DetectorSpec((15, 15), 5, 1, 10, 8, ((0.5, (50, 62)), (2.0, (15, -10))))
        assert board.detector() == shrunk and board.identity.detector == replace(shrunk, rates=())
        assert board.set_rate(2).thresholds == (15, -10)
        assert board.set_thresholds([255, -255]).thresholds == (255, -255)
        board.set_rate(2)
        assert board.memory().flash == 100000  # the board listens and answers
        heard = [Decision.of(item) for item in board.listen(25)]
        assert heard == listen(load_model(model), board.identity, pcm)[:25]
        board.load_input(bytes(1960))
        assert board.infer(2, 1).count == 2
    with running(slow) as url, Board(url) as board:  # no microphone: the board waits for commands
        assert board.memory().flash == 100000


@pytest.mark.parametrize(
    "module",
    [board_module, detector_module, profiler_module, protocol_module, trial_module, tune_module, commands],
)
def test_examples(module: ModuleType) -> None:
    """The examples in the docstrings."""
    assert doctest.testmod(module).failed == 0


def test_host_decisions_do_not_depend_on_the_board() -> None:
    """The host's own listening at the board's hop: frames, window content and detector, by a plain loop."""
    from converter.audio.frontend import MicroFrontend
    from host.link.detector import Detector
    from host.link.protocol import Audio

    graph, pcm = tinyconv(), sound(1.5, 6)
    identity = Identity(
        "", "", "", "", "", "", 64_000_000, 1960, 4, 4, SPEC.labels, Audio(16000, 480, 320, 16000, 49, 40), DETECTOR
    )
    frames = MicroFrontend(SPEC.features).features(pcm)
    window = np.full((49, 40), -128, np.int8)
    detector, expected = Detector(DETECTOR, 4), []
    for count, frame in enumerate(frames, 1):
        window = np.concatenate([window[1:], frame[None]])
        if count % DETECTOR.hop_frames == 0:
            scores = tuple(reference.run(graph, window.reshape(1, 49, 40, 1))[graph.output].ravel().tolist())
            expected.append(Decision(count, scores, detector.step(scores)))
    assert listen(Model(Path("x"), graph, SPEC), identity, pcm) == expected


def test_without_run_the_committed_model_of_the_board_is_meant() -> None:
    for path in COMMITTED:
        model = load_model(path)
        board = Identity(model.spec_id, model.graph.model_id, "", "", "aot", "", 64_000_000, 1960, 4, 8)
        assert model_of_board(None, board).path == path and model_of_board(COMMITTED[0], board).path == COMMITTED[0]
    unknown = Identity("none", "0" * 12, "", "", "aot", "", 64_000_000, 1960, 4, 8)
    assert model_of_board(None, unknown).path == COMMITTED[0]
