"""Misses and false accepts of streams: the rule at its edges, the bound, what is played, and the command."""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import trainer_corpus
from host_cli import sound
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from converter.arrays import Float64, Int8
from converter.compiler import find_compiler
from converter.onnx_qdq.reader import read_onnx
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec, FeatureSpec
from host.link.detector import Detector
from host.link.expected import REFERENCE
from host.report.run_page import write_report
from trainer.__main__ import app
from trainer.data.negatives import make_negatives
from trainer.data.recordings import write_wav
from trainer.data.utterances import active_rms
from trainer.errors import TrainerError
from trainer.run import detector_tuning, evaluate, false_accepts, steps
from trainer.run.detector_tuning import decide
from trainer.run.false_accepts import Engine, Listening, hear, negative_sources, open_engine, own_words
from trainer.run.listening import (
    Curve,
    Judged,
    Spoken,
    Track,
    Words,
    amplitude,
    babble,
    evidence_of,
    judge_track,
    judge_words,
    noise_bed,
    play,
    point_at,
    rate_bound,
    summed,
    sweep,
)

RATE = 16000
SPEC = FeatureSpec()


def outputs(count: int, labels: int, seed: int) -> Int8:
    """Int8 outputs that move as slowly as those of a model."""
    steps: Float64 = np.cumsum(np.random.default_rng(seed).normal(0, 40, (count + 6, labels)), axis=0)
    return np.clip(steps[6:] - steps[:-6], -128, 127).astype(np.int8)


@pytest.mark.parametrize("seed", range(12))
def test_decisions_are_those_of_the_firmwares_detector(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hop, count, rest, settle = (int(rng.integers(low, high)) for low, high in ((1, 4), (1, 9), (0, 30), (0, 80)))
    thresholds = tuple(int(v) for v in rng.integers(-60, 60, 3) * count)
    spec = DetectorSpec(thresholds, hop, count, rest, settle)
    rows = outputs(3000, 5, seed)
    found = decide(summed(evidence_of(rows), count), thresholds, spec)
    detector = Detector(spec, 5)
    heard = [(k, word) for k, row in enumerate(rows) if (word := detector.step([int(v) for v in row])) is not None]
    assert found == heard == detector_tuning.decisions(rows, spec) and len(found) > 5


WORD = Spoken(2, 16000, 24000)


@pytest.mark.parametrize(
    ("at", "label", "heard", "confused", "false_accepts"),
    [
        (15999, 2, False, False, 1),
        (16000, 2, True, False, 0),
        (31999, 2, True, False, 0),
        (32000, 2, False, False, 0),  # too late to count, too near to be a false accept
        (39999, 2, False, False, 0),
        (40000, 2, False, False, 1),
        (16000, 3, False, True, 0),
        (39999, 3, False, True, 0),
        (40000, 3, False, False, 1),
    ],
)
def test_rule_at_its_edges(at: int, label: int, heard: bool, confused: bool, false_accepts: int) -> None:
    found = judge_words([(at, label)], [WORD], RATE)
    assert found == Judged(
        frozenset({0} if heard else ()), {0: label} if confused else {}, ((at, label),) if false_accepts else ()
    )


def test_false_accepts_within_a_second_of_a_counted_one_are_the_same() -> None:
    found = judge_words([(0, 2), (15999, 3), (16000, 3), (31999, 2), (60000, 2)], [], RATE)
    assert found.false_accepts == ((0, 2), (16000, 3), (60000, 2))


def test_words_close_to_each_other_and_named_twice() -> None:
    near = [WORD, Spoken(3, 30000, 38000)]
    assert judge_words([(31000, 2), (31500, 3), (33000, 3)], near, RATE) == Judged(frozenset({0, 1}), {}, ())
    both = judge_words([(20000, 3), (20100, 3), (25000, 2)], [WORD], RATE)
    assert both == Judged(frozenset({0}), {0: 3}, ())


@pytest.mark.parametrize(
    ("events", "bound"), [(0, 2.996), (1, 4.744), (2, 6.296), (3, 7.754), (4, 9.154), (5, 10.513), (10, 16.962)]
)
def test_bound_is_the_tables(events: int, bound: float) -> None:
    """Upper limits at 95 %, one-sided: half the chi-squared quantile of 2 n + 2 degrees of freedom."""
    assert rate_bound(events, 1.0) == pytest.approx(bound, abs=6e-4)
    assert rate_bound(events, 4.0) == pytest.approx(bound / 4, abs=2e-4)


def test_bound_of_many_events() -> None:
    assert rate_bound(2000, 1.0) == pytest.approx(2000 + 1.645 * math.sqrt(2000), rel=2e-3)


DETECTOR = DetectorSpec((100,), average_count=1, suppress_frames=0, settle_frames=0)


def pulses(heights: list[int], kind: str) -> Track:
    """One inference in fifty has evidence, more than a second from the next; as words or as false accepts."""
    evidence = np.full((50 * len(heights), 1), -255, np.int16)
    evidence[25::50, 0] = heights
    seconds = len(evidence) * 0.04
    spoken = [Spoken(2, 32000 * i + 14000, 32000 * i + 18000) for i in range(len(heights))] if kind == "words" else []
    return Track(kind, kind, seconds, evidence, tuple(spoken))


def test_curve_counts_every_height_at_every_shift() -> None:
    tracks = [pulses([0, 40, 41, 41, 42, 120], "negative"), pulses([50, 60, 255], "words")]
    curve = sweep(tracks, DETECTOR, SPEC)
    hours = tracks[0].seconds / 3600
    for shift in range(-300, 157):
        place = max(index for index, one in enumerate(curve.shifts) if one <= shift)
        assert curve.total[place] == sum(h >= 100 + shift for h in (0, 40, 41, 41, 42, 120))
        assert curve.misses["words"][place] == sum(h < 100 + shift for h in (50, 60, 255))
    assert curve.total[-1] == 0 and curve.misses["words"][-1] == 3
    assert curve.shifts.index(0) > 0
    places = [point_at(curve, events / hours, hours) for events in (5.5, 3.0, 1.0, 0.0)]
    assert [curve.shifts[p] for p in places] == [-99, -58, -57, 21]


def test_counts_are_monotone_where_evidence_is_single_peaks() -> None:
    heights = np.random.default_rng(0).integers(-200, 255, 300).tolist()
    curve = sweep([pulses(heights, "negative"), pulses(heights, "words")], DETECTOR, SPEC)
    start = curve.total.index(max(curve.total))
    assert list(curve.total[start:]) == sorted(curve.total[start:], reverse=True)
    assert list(curve.misses["words"][start:]) == sorted(curve.misses["words"][start:])


def test_fewer_than_a_rate_holds_from_its_point_on() -> None:
    """A curve that falls below a rate, rises and falls again has it from the last fall on."""
    curve = Curve((0, 1, 2, 3), {"a": (9, 1, 3, 1)}, {"clean": (0, 1, 2, 3)})
    assert point_at(curve, 2.0, 1.0) == 3 and point_at(curve, 9.0, 1.0) == 0


def clip(seed: int) -> Any:
    pcm = np.zeros(RATE, np.int16)
    pcm[4000:9000] = np.random.default_rng(seed).normal(0, 300 * (seed + 1), 5000)
    return pcm


WORDS = Words(tuple(clip(seed) for seed in range(4)), (2, 3, 2, 3), ((4000, 9000),) * 4)


@pytest.mark.parametrize("snr", [20, 10, 5])
def test_noise_and_babble_have_the_snr_that_is_named(snr: int) -> None:
    starts, samples = WORDS.placed(24000, RATE)
    assert starts == [24000 + 19200 + i * (16000 + 19200) for i in range(4)] and samples == 24000 + 19200 + 4 * 35200
    noises = [np.random.default_rng(i).normal(0, 50 + 900 * i, 9000).astype(np.int16) for i in range(3)]
    noise = noise_bed(noises, samples) * np.float32(amplitude(-26 - snr))
    voices = sound(30, seed=3)
    talk = babble(voices, samples, RATE) * np.float32(amplitude(-26 - snr))
    for at in (0, 9000, 18000):  # whichever file is heard
        assert 20 * np.log10(amplitude(-26) / noise[at : at + 9000].std()) == pytest.approx(snr, abs=0.05)
    assert 20 * np.log10(amplitude(-26) / active_rms(talk, RATE)) == pytest.approx(snr, abs=0.05)
    for bed in (noise, talk):
        speech = play(WORDS, bed, 24000, RATE, -26.0) - np.rint(bed)
        for word in WORDS.spoken(24000, RATE):
            assert active_rms(speech[word.start : word.end], RATE) == pytest.approx(amplitude(-26), rel=2e-3)


def test_clean_words_keep_their_level_and_loud_ones_are_cut_not_wrapped() -> None:
    bed = np.zeros(WORDS.placed(0, RATE)[1], np.float32)
    pcm = play(WORDS, bed, 0, RATE)
    for one, start in zip(WORDS.clips, WORDS.placed(0, RATE)[0], strict=True):
        assert np.array_equal(pcm[start : start + RATE], one)
    loud = play(WORDS, bed, 0, RATE, 6.0)
    assert loud.max() == 32767 and loud.min() == -32768


def test_babble_shorter_than_the_stream_begins_again() -> None:
    voices = sound(2, seed=1)
    found = babble(voices, 100_000, RATE)
    assert np.allclose(found[:32000], found[32000:64000], atol=1e-5)


@pytest.fixture
def graph() -> Any:
    return read_onnx((REFERENCE / "model.onnx").read_bytes())


def test_compiled_engine_equals_the_reference(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hop by hop, by whole windows and by numpy, over chunks, and a second stream after a first."""
    if find_compiler() is None:
        pytest.skip("no C compiler on this machine")
    detector = ModelArtifact.load(REFERENCE).detector
    monkeypatch.setattr(false_accepts, "CHUNK", 37)
    engines = [open_engine(graph, SPEC, detector, tmp_path / "hops")]
    odd = replace(detector, hop_frames=7)  # no multiple of the strides: whole windows
    engines.append(open_engine(graph, SPEC, odd, tmp_path / "windows"))
    monkeypatch.setattr(false_accepts, "find_compiler", lambda: None)
    numpy = [open_engine(graph, SPEC, one, tmp_path) for one in (detector, odd)]
    assert [e.name.split(",")[1:] for e in engines] == [[" hop by hop"], [" whole windows"]]
    for seed in (0, 1):
        pcm = sound(6, seed)
        for compiled, reference in zip(engines, numpy, strict=True):
            wanted = reference.hear(pcm, lambda _: None)
            assert np.array_equal(compiled.hear(pcm, lambda _: None), wanted) and len(np.unique(wanted)) > 20


def test_an_error_in_one_stream_ends_the_others() -> None:
    """The other stream would take a hundred seconds."""
    track, steps = Track("a", "negative", 600.0, false_accepts.UNHEARD), list[int]()

    def slow(pcm: Any, advance: Any) -> Any:
        for number in range(10_000):
            steps.append(number)
            time.sleep(0.01)
            advance(1)

    def broken() -> Any:
        time.sleep(0.2)
        raise TrainerError("a: damaged")

    with Progress(disable=True) as progress, pytest.raises(TrainerError, match="a: damaged"):
        hear(Engine("slow", 2, slow), [(track, broken), (track, lambda: sound(1))], DETECTOR, SPEC, progress)
    assert 0 < len(steps) < 5000


# The command


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The reference model on chirps, some of which it takes for words at these thresholds, and on two sources."""
    home = tmp_path_factory.mktemp("listening")
    corpus = trainer_corpus.make(home / "corpus", ("yes", "stop", "other", "more"), 60)
    run = home / "run"
    shutil.copytree(REFERENCE, run)
    artifact = ModelArtifact.load(run)
    rates = ((0.5, (-300, -1300)), (5.0, (-400, -1380)))
    tuned = replace(artifact, detector=replace(artifact.detector, thresholds=rates[0][1], rates=rates))
    point = {"hours": 1.0, "left_out": [], "validation_words": 8, "miss_rate_at": {"0.5": 0.1}}
    tuned.with_results(operating_point=point).save()
    (run / "source.json").write_text(json.dumps({"data": str(corpus)}))
    for name, seed in (("anna", 0), ("bob", 5)):
        (home / name).mkdir()
        for part in (0, 1):
            soundfile.write(home / name / f"{part}.wav", sound(25, seed + part), RATE)
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine")
    asked = Listening((home / "anna", home / "bob"), None, home / "F.json")
    engines = evaluate._engines(artifact)
    graph = read_onnx(artifact.onnx.read_bytes())
    step = graph.tensors[graph.output].quant.scales[0]
    engines["float"] = lambda x: engines["int8"](x) * np.float32(step)  # a float network without an error
    with pytest.MonkeyPatch.context() as patch, Progress(disable=True) as progress:
        patch.chdir(home)
        patch.setattr(evaluate, "_engines", lambda _: engines)
        return home, evaluate.evaluate_run(run, None, progress, asked)["listening_streams"]


def test_figures_can_be_recomputed_from_the_scores_alone(measured: tuple[Path, dict[str, Any]]) -> None:
    home, result = measured
    scores = json.loads((home / "F.json").read_text())
    figures = {one["name"]: one for one in (*result["sources"], *result["conditions"])}
    figures |= {one["word"]: one for one in result["other_words"]}
    assert {s["name"] for s in scores["streams"]} == figures.keys() and len(figures) == 2 + 7 + 2
    for stream in scores["streams"]:
        decided = naive_detector(scores, stream)
        assert decided == stream["decisions"]
        missed, confusions, wrong = naive_rule(scores, stream, decided)
        figure = figures[stream["name"]]
        if stream["kind"] == "negative":
            assert figure["false_accepts"] == wrong and figure["hours"] == round(50 / 3600, 3)
        elif stream["kind"] == "words":
            assert (figure["misses"], figure["confusions"], figure["false_accepts"]) == (missed, confusions, wrong)
        else:
            assert figure["taken"] == confusions
    assert sum(s["false_accepts"] for s in result["sources"]) == result["shipped"]["false_accepts"] > 0
    assert 0 < result["shipped"]["misses"]["clean"] < result["conditions"][0]["words"]
    for row in result["tuned"]:
        scores["detector"]["thresholds"] = row["thresholds"]
        wrong, misses = 0, dict[str, int]()
        for stream in scores["streams"]:
            found = naive_rule(scores, stream, naive_detector(scores, stream))
            wrong += found[2] if stream["kind"] == "negative" else 0
            misses |= {stream["name"]: found[0]} if stream["kind"] == "words" else {}
        assert (row["false_accepts"], row["misses"]) == (wrong, misses)
    assert [row["rate"] for row in result["tuned"]] == [0.5, 5.0]
    assert result["float"] == result["points"]


def naive_detector(scores: dict[str, Any], stream: dict[str, Any]) -> list[list[int]]:
    d, decided, last, rows = scores["detector"], [], -math.inf, list(zip(*stream["evidence"].values(), strict=True))
    armed = [True] * len(rows[0])
    for k in range(len(rows)):
        sums = [sum(column) for column in zip(*rows[max(0, k + 1 - d["average_count"]) : k + 1], strict=True)]
        above = [total >= least for total, least in zip(sums, d["thresholds"], strict=True)]
        armed = [was or not high for was, high in zip(armed, above, strict=True)]
        frames = (k + 1) * d["hop_frames"]
        able = [w for w in range(len(sums)) if armed[w] and above[w]]
        if able and frames > d["settle_frames"] and frames - last > d["suppress_frames"]:
            word = max(able, key=lambda w: (sums[w], -w))
            decided.append([k, word + 2])
            armed[word], last = False, frames
    return decided


def naive_rule(scores: dict[str, Any], stream: dict[str, Any], decided: list[list[int]]) -> tuple[int, int, int]:
    """Words missed, confusions and false accepts; words are never within a second of each other here."""
    rate, heard, confused, wrong = scores["sample_rate_hz"], set[int](), set[int](), list[int]()
    for k, label in decided:
        at = scores["first_inference_sample"] + k * scores["hop_samples"]
        near = [i for i, (_, start, end) in enumerate(stream["spoken"]) if start <= at < end + rate]
        for i in near:
            word, _, end = stream["spoken"][i]
            if word != label:
                confused.add(i)
            elif at < end + rate / 2:
                heard.add(i)
        if not near and (not wrong or at - wrong[-1] >= rate):
            wrong.append(at)
    return len(stream["spoken"]) - len(heard), len(confused), len(wrong)


def test_results_tables_picture_and_page(measured: tuple[Path, dict[str, Any]], capsys: Any) -> None:
    home, result = measured
    run = home / "run"
    kept = json.loads((run / "artifact.json").read_text())["results"]["evaluation"]["listening_streams"]
    full = json.loads((run / "evaluation.json").read_text())["listening_streams"]
    assert kept["shipped"] == full["shipped"] == result["shipped"] and "curve" not in kept and "curve" in full
    first, past = full["curve"]["drawn"]
    assert first <= full["curve"]["shifts"].index(0) < past and full["curve"]["total"][past - 1] == 0
    assert (run / "false_accepts.png").read_bytes()[:4] == b"\x89PNG"
    console = Console(width=100, record=True)
    evaluate.show(ModelArtifact.load(run), json.loads((run / "evaluation.json").read_text()), console)
    text = console.export_text()
    assert "shipped" in text and "babble" in text and "bob" in text and "only" not in text
    page = write_report(run).read_text()
    shipped, n = result["shipped"], result["conditions"][0]["words"]
    assert f"{100 * shipped['misses']['clean'] / n:.1f} % clean" in page
    assert page.index("false accepts per hour</b>") < page.index("spec id") and page.count("<svg") >= 1


def listen_to(*folders: Path) -> Any:
    with Progress(disable=True) as progress:
        return negative_sources(folders, ("yes", "stop"), progress)


def test_folders_that_cannot_be_listened_to(tmp_path: Path, measured: tuple[Path, dict[str, Any]]) -> None:
    home, _ = measured
    with pytest.raises(TrainerError, match="no such folder"):
        listen_to(tmp_path / "missing")
    with pytest.raises(TrainerError, match="holds no recordings"):
        listen_to(tmp_path)
    with pytest.raises(TrainerError, match="2 sources are named anna"):
        listen_to(home / "anna", home / "anna")
    (tmp_path / "short").mkdir()
    soundfile.write(tmp_path / "short" / "a.wav", sound(0.5), RATE)
    with pytest.raises(TrainerError, match="less than a second"):
        listen_to(tmp_path / "short")
    (tmp_path / "short" / "a.wav").write_bytes(b"no sound")
    with pytest.raises(TrainerError, match=r"a\.wav: no sound"):
        listen_to(tmp_path / "short")


def test_own_negatives_are_for_training_and_words_need_test_clips(
    tmp_path: Path, measured: tuple[Path, dict[str, Any]]
) -> None:
    home, _ = measured
    with Progress(disable=True) as progress:
        make_negatives(tmp_path / "made", (), [home / "anna"], progress)
        with pytest.raises(TrainerError, match="no negatives of the split test"):
            listen_to(tmp_path / "made")
        asked = Listening((home / "anna",), home / "anna")
        with (
            pytest.raises(TrainerError, match="no clips of the word 'yes'"),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.chdir(home)
            evaluate.evaluate_run(home / "run", None, progress, asked)


def test_a_folder_of_few_speakers_is_heard_as_a_whole_but_for_what_training_heard(
    tmp_path: Path, measured: tuple[Path, dict[str, Any]]
) -> None:
    home, _ = measured
    artifact = ModelArtifact.load(home / "run")
    selection = steps.Source.load(home / "run").selection(artifact.spec, Progress(disable=True))
    known = [clip for clip in selection.clips["train"] if clip.label >= 2][:3]
    for word in artifact.spec.words:
        (tmp_path / word).mkdir()
        for number in range(5):
            write_wav(tmp_path / word / f"me_nohash_{number}.wav", np.full(RATE, 100 + number, np.int16))
    for clip in known:
        (tmp_path / clip.name.split("/")[0] / f"copy-{clip.path.name}").write_bytes(clip.path.read_bytes())
    mine = own_words(artifact, selection, tmp_path)
    assert len(mine.clips) == 5 * len(artifact.spec.words)
    assert sorted(set(int(pcm[0]) for pcm in mine.clips)) == [100, 101, 102, 103, 104]


def test_command_says_what_goes_with_what(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["evaluate", str(tmp_path), "--scores", str(tmp_path / "F.json")])
    assert found.exit_code == 1 and "give that too" in found.output


def test_track_is_judged_at_the_time_its_frame_ended() -> None:
    evidence = np.full((100, 1), -255, np.int16)
    evidence[50] = 255
    at = (51 * 2 - 1) * 320 + 480
    for start, heard in ((at, {0}), (at + 1, set())):
        track = Track("t", "words", 4.0, evidence, (Spoken(2, start, start + 100),))
        assert judge_track(track, summed(evidence, 1), (100,), DETECTOR, SPEC).heard == heard
