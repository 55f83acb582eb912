"""Training for streams: what scenes hold, what is learned from them, and the thresholds that follow."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from trainer_corpus import make

from converter.arrays import Int16
from converter.spec import DetectorSpec, FeatureSpec, KwsSpec
from trainer.data import synthetic_speech
from trainer.data.augment import LabelledClips
from trainer.data.negatives import Clip, Stream, make_negatives
from trainer.data.recordings import write_wav
from trainer.data.scene_studio import (
    IGNORED,
    NO_WORD,
    HardNegatives,
    Material,
    SceneSettings,
    window_targets,
)
from trainer.data.scenes import FOLDS, Scenes, make_scenes, speaker_groups
from trainer.data.utterances import active_rms, word_span, word_spans
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import Architecture, Network, build, fold_norms
from trainer.network.quant_options import QuantOptions
from trainer.run import quantize, steps
from trainer.run.fine_tune import calibrate
from trainer.run.fit import Averaged, Fit, TrainSettings, fit, to_batch, with_hard
from trainer.run.listening import Spoken, Track, judge_track
from trainer.run.operating_point import (
    RATES,
    Heard,
    highest_sums,
    peaks,
    quant_outputs,
    rate_table,
    stream_outputs,
    threshold_at,
)
from trainer.run.scene_loss import scene_logits, scene_loss, word_evidence

FEATURES = FeatureSpec()
RATE_HZ = FEATURES.sample_rate_hz
QUIET = Progress(disable=True)


def tone(seconds: float, level: float = 8000.0, hz: float = 700.0) -> Int16:
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pcm: Int16 = np.rint(level * np.sin(2 * np.pi * hz * time)).astype(np.int16)
    return pcm


def clip_with_tone(first: int, samples: int) -> Int16:
    clip = np.random.default_rng(0).normal(0, 20, RATE_HZ)
    clip[first : first + samples] += tone(samples / RATE_HZ)
    return clip.astype(np.int16)


def test_word_span_finds_the_word_in_noise_and_keeps_to_the_loudest() -> None:
    begin, end = word_span(clip_with_tone(4000, 6400), RATE_HZ)
    assert abs(begin - 4000) <= 480 and abs(end - 10400) <= 480
    both = clip_with_tone(2000, 3200)
    both[9000:12000] += (tone(3000 / RATE_HZ) // 4).astype(np.int16)  # a quieter sound after a pause of 0.24 s
    begin, end = word_span(both, RATE_HZ)
    assert abs(begin - 2000) <= 480 and abs(end - 5200) <= 480
    assert word_span(np.zeros(RATE_HZ, np.int16), RATE_HZ)[1] <= RATE_HZ


def test_active_rms_leaves_silence_out() -> None:
    half = np.concatenate([tone(0.5), np.zeros(RATE_HZ // 2, np.int16)])
    assert active_rms(half, RATE_HZ) == pytest.approx(8000 / np.sqrt(2), rel=0.01)
    assert active_rms(np.zeros(80, np.int16), RATE_HZ) == 0


def test_window_targets_by_hand() -> None:
    """A word from 1.2 to 1.6 s in scenes of 3 s: window k hears from 0.04 k to 0.04 k + 0.99 s."""
    frames, span = 149, (int(1.2 * RATE_HZ), int(1.6 * RATE_HZ))
    found = window_targets(frames, FEATURES, 2, span)
    assert len(found) == 51
    for k, target in enumerate(found):
        first, past = 0.04 * k, 0.04 * k + 0.99
        inside = max(0.0, min(past, 1.6) - max(first, 1.2)) / 0.4
        if first <= 1.26 and past >= 1.54:
            assert target == 2, k
        elif inside > 0.51:
            assert target == IGNORED, k
        elif inside < 0.49:
            assert target == NO_WORD, k
    other = window_targets(frames, FEATURES, 1, span)
    assert set(other) == {1, NO_WORD} and ((other == 1) == (found == 2)).all()
    assert set(window_targets(frames, FEATURES, 0, None)) == {0}
    assert set(window_targets(frames, FEATURES, NO_WORD, span)) == {NO_WORD}


def some_material() -> Material:
    rng = np.random.default_rng(1)
    words = np.stack([clip_with_tone(4000, 6400 + 100 * i) for i in range(6)])
    others = np.stack([clip_with_tone(3000, 4800) for _ in range(4)])
    speech = tuple(rng.normal(0, 1500, RATE_HZ * 9).astype(np.int16) for _ in range(3))
    noises = (rng.normal(0, 300, RATE_HZ * 12).astype(np.int16),)
    labels = np.array([2, 3] * 3)
    spans = word_spans(words, RATE_HZ)
    return Material(words, labels, spans, others, word_spans(others, RATE_HZ), speech, (0, 1, FOLDS), noises)


def test_scenes_repeat_and_leave_groups_out() -> None:
    settings = SceneSettings(count=300)
    scenes = make_scenes(some_material(), FEATURES, settings, QUIET)
    again = make_scenes(some_material(), FEATURES, settings, QUIET)
    assert np.array_equal(scenes.features, again.features) and np.array_equal(scenes.targets, again.targets)
    assert scenes.features.shape == (300, 149, 40) and scenes.targets.shape == (300, 51)
    assert set(np.unique(scenes.targets)) == {NO_WORD, IGNORED, 0, 1, 2, 3}
    has_word = (scenes.targets >= 2).any(axis=1).mean()
    assert abs(has_word - settings.word_share) < 0.1
    assert set(np.unique(scenes.groups)) == {-1, 0, 1, FOLDS}
    left = scenes.without({0})
    assert set(np.unique(left.groups)) == {-1, 1, FOLDS} and len(left.groups) == (scenes.groups != 0).sum()
    other = make_scenes(some_material(), FEATURES, replace(settings, seed=1), QUIET)
    assert not np.array_equal(scenes.features, other.features)
    both = replace(scenes, candidates=other)
    assert both.identity != scenes.identity
    candidates = both.without({0}).candidates
    assert candidates is not None and 0 not in candidates.groups and len(candidates.groups) == (other.groups != 0).sum()


def test_speaker_groups_hold_whole_speakers_of_about_equal_length() -> None:
    def stream(name: str, speaker: str, minutes: int, kind: str = "speech") -> Stream:
        clips = (Clip("a", 0, minutes * 60 * RATE_HZ),)
        return Stream(name, speaker, "", "train", "", "", "", clips, kind)  # type: ignore[arg-type]

    found = speaker_groups(
        [
            *(stream("a", "x", 20), stream("b", "y", 90), stream("c", "x", 10), stream("d", "z", 25)),
            *(stream("e", "w", 60, "words"), stream("f", "v", 60, "music")),
        ]
    )
    assert found["a"] == found["c"] and len({found["a"], found["b"], found["d"]}) == 3
    assert found["e"] == found["f"] == FOLDS and max(found["a"], found["b"], found["d"]) < FOLDS


def untrained(model: str = "tcn") -> Network:
    torch.manual_seed(0)
    return build(Architecture.of(model, 4, FEATURES))


@pytest.mark.parametrize("model", ["tcn", "tinyconv_stream"])
def test_a_stream_gives_the_logits_of_its_windows(model: str) -> None:
    network = untrained(model).eval()
    x = torch.rand(2, 1, 149, 40) * 26
    with torch.no_grad():
        found = network(x)
        each = torch.stack([network(x[:, :, 2 * k : 2 * k + 49]) for k in range(51)], dim=1)
    assert found.shape == (2, 51, 4) and torch.allclose(found, each, atol=1e-5)


def test_a_padded_network_sees_windows_alone() -> None:
    network = untrained("tinyconv").eval()
    x, targets = torch.rand(2, 1, 149, 40) * 26, torch.arange(102).reshape(2, 51)
    with torch.no_grad():
        logits, left, _ = scene_logits(network, x, targets, 49)
        assert torch.allclose(logits[1, 3], network(x[1:, :, 24:73])[0], atol=1e-5)
    assert left[1].tolist() == list(range(51, 102, 4)) and logits.shape == (2, 13, 4)


class Fixed(torch.nn.Module):
    """Gives the logits it was made with."""

    streams = True

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_loss_falls_when_the_word_is_named_in_its_place_and_nowhere_else() -> None:
    targets = torch.full((1, 51), NO_WORD)
    targets[0, 15:20], targets[0, 20:30], targets[0, 30:34] = IGNORED, 2, IGNORED
    x = torch.zeros(1, 1, 149, 40)

    def loss(word: int, windows: slice) -> float:
        logits = torch.zeros(1, 51, 4)
        logits[0, :, 1] = 8.0
        logits[0, windows, 1], logits[0, windows, word] = 0.0, 8.0
        return float(scene_loss(Fixed(logits), x, targets, 49)[0].detach())

    right, silent = loss(2, slice(20, 30)), loss(2, slice(0, 0))
    assert right < 0.2 and silent > right + 3
    assert loss(3, slice(20, 30)) > silent and loss(2, slice(38, 50)) > silent
    assert loss(2, slice(16, 33)) < right + 0.2  # windows with most of the word may say it
    evidence = word_evidence(torch.tensor([[[0.0, 1.0, 3.0, -1.0]]]))
    assert evidence[0, 0, 0] == pytest.approx(3 - np.log(1 + np.e + np.exp(-1)), abs=1e-5)


def test_training_on_scenes_learns_them(tmp_path: Path) -> None:
    scenes = make_scenes(some_material(), FEATURES, SceneSettings(count=128), QUIET)
    validation = LabelledClips(
        np.zeros((4, 49, 40), np.int8), np.array([0, 1, 2, 3]), ("a",) * 4, np.zeros((4, RATE_HZ), np.int16)
    )
    settings = TrainSettings(epochs=3, batch=32, learning_rate=4e-3, scenes=SceneSettings(count=128))
    network = untrained()
    history = fit(network, scenes, validation, settings, FEATURES, tmp_path / "a.pt", QUIET)
    assert history[-1].train_loss < 0.8 * history[0].train_loss
    quant = QuantNetwork(fold_norms(network), FEATURES, QuantOptions(8))
    calibrate(quant, scenes, 0)
    frames = scenes.features[:3].reshape(-1, 40)
    outputs = stream_outputs(quant, frames)
    windows = np.stack([frames[2 * k : 2 * k + 49] for k in range(len(outputs))])
    assert np.array_equal(outputs, quant_outputs(quant)(windows))
    assert to_batch(windows, FEATURES).shape[1:] == (1, 49, 40)


def test_the_last_rounds_take_the_hardest_candidates_in() -> None:
    """Of the averaged weights' sums, taken scene by scene here; the network keeps its own weights."""
    scenes = make_scenes(some_material(), FEATURES, SceneSettings(count=32), QUIET)
    hard = HardNegatives(SceneSettings(seed=7, count=40, word_share=0.0, other_share=0.5), kept=5, rounds=2)
    candidates = make_scenes(some_material(), FEATURES, hard.scenes, QUIET)
    assert not (candidates.targets >= 2).any()
    settings = TrainSettings(epochs=3, scenes=SceneSettings(count=32), hard=hard)
    network, averaged = untrained(), untrained()
    run = fit_of(network, settings)
    torch.manual_seed(5)
    for value in run.average.state.values():
        if value.is_floating_point() and value.ndim > 1:
            value += 0.1 * torch.randn_like(value)
    averaged.load_state_dict(run.average.state)
    sums = []
    for frames in candidates.features:
        with torch.no_grad():
            evidence = word_evidence(averaged.eval()(to_batch(frames[None], FEATURES)))[0]
        sums.append(max(float(evidence[w, k : k + 8].mean()) for w in (0, 1) for k in range(evidence.shape[1] - 7)))
    own = {key: value.clone() for key, value in network.state_dict().items()}
    pool = replace(scenes, candidates=candidates)
    assert with_hard(run, pool, FEATURES, 0) is pool
    for number in (1, 2):
        joined = with_hard(run, pool, FEATURES, number)
        assert isinstance(joined, Scenes) and joined.epoch_size == 37
        assert np.array_equal(joined.features[:32], scenes.features)
        assert np.array_equal(joined.features[32:], candidates.features[np.argsort(sums)[::-1][:5]])
    assert all(torch.equal(own[key], value) for key, value in network.state_dict().items())
    with pytest.raises(ValueError, match="hold no chosen word"):
        HardNegatives(SceneSettings())


def fit_of(network: Network, settings: TrainSettings) -> Fit:
    optimizer = torch.optim.AdamW(network.parameters())
    return Fit(network, settings, Path("none"), optimizer, Averaged(network, 0.9), [], {}, "")


def test_peaks_and_thresholds() -> None:
    values = np.full(200, -9.0)
    values[[10, 20, 60, 150]] = 5.0, 6.0, 4.0, 1.0
    found = peaks(values)
    assert found.tolist() == [6.0, 4.0, 1.0]  # 5.0 lies within a second of 6.0
    assert threshold_at(found, 2.5) == 1.0 and threshold_at(found, 9.0) == 1.0
    assert threshold_at(found, 1.0) == pytest.approx(1 + 4 * np.log(2))  # both exceed 1.0 by 4 in the mean
    assert threshold_at(found, 1.0) < threshold_at(found, 0.5) < threshold_at(found, 0.1)
    assert threshold_at(np.array([]), 1.0) == 0.0


def test_threshold_of_an_exponential_tail_is_the_right_one_in_the_mean() -> None:
    rng = np.random.default_rng(3)
    for expected in (0.3, 1.0, 3.0):
        heard = [threshold_at(np.sort(rng.exponential(2.0, 1000))[::-1], expected) for _ in range(400)]
        assert np.mean(heard) == pytest.approx(2.0 * np.log(1000 / expected), rel=0.03)


def test_rate_table_falls_with_the_rate_and_scales_with_the_steps() -> None:
    rng = np.random.default_rng(2)
    heard = [Heard(f"s{i}", 3600.0, rng.normal(-2, 2, (90_000, 2))) for i in range(2)]
    nothing = (np.zeros(0, np.int32),) * 2  # no word to save: equal shares
    table = rate_table(heard, 0.06, 8, nothing)
    assert tuple(table) == RATES
    columns = np.array(list(table.values()))
    assert (np.diff(columns, axis=0) <= 0).all() and (columns[0] > columns[-1]).all()
    at_ten = table[10.0]
    for word in range(2):
        counted = sum(int((peaks(h.evidence[:, word]) >= at_ten[word] * 0.06 / 8).sum()) for h in heard)
        assert counted == 10  # 10 an hour, two hours, two words
    halved = np.array(rate_table(heard, 0.03, 8, nothing)[10.0])
    assert np.abs(halved - 2 * np.array(at_ten)).max() <= 2


def test_a_rate_is_shared_out_where_it_saves_most_words() -> None:
    rng = np.random.default_rng(2)
    heard = [Heard("s", 7200.0, rng.normal(-2, 2, (180_000, 2)))]
    equal = rate_table(heard, 0.06, 8, (np.zeros(0, np.int32),) * 2)
    sure = np.full(100, 2000, np.int32)  # steps, above every threshold
    doubtful = np.linspace(equal[10.0][1] - 50, equal[0.1][1] + 50, 100).astype(np.int32)
    table = rate_table(heard, 0.06, 8, (sure, doubtful))
    assert (np.diff(np.array(list(table.values())), axis=0) <= 0).all()
    for rate in RATES:
        counted = [int((peaks(heard[0].evidence[:, w]) >= table[rate][w] * 0.06 / 8).sum()) for w in range(2)]
        assert sum(counted) <= 2 * rate + 2  # two hours; from a tail below ten
        assert table[rate][0] > equal[rate][0] and table[rate][1] < equal[rate][1], rate


def test_highest_sums_are_those_that_name_a_word_in_its_place() -> None:
    """A word counts as heard at a threshold exactly when its highest sum reaches it: against the rule itself."""
    rng = np.random.default_rng(5)
    detector = DetectorSpec((1, 1), average_count=1, settle_frames=0, suppress_frames=0)
    spoken = tuple(Spoken(2 + n % 2, 5 * n * RATE_HZ + 311 * n, 5 * n * RATE_HZ + 9000) for n in range(20))
    sums = np.asfortranarray(rng.integers(0, 1000, (100 * 25, 2)).astype(np.int32))
    reached = highest_sums(sums, spoken, detector, FEATURES)
    for label in (2, 3):
        same = [one for one in spoken if one.label == label]
        for one, highest in zip(same, reached[label - 2].tolist(), strict=True):
            track = Track("words", "words", 100.0, sums.astype(np.int16), (one,))
            for least, heard in ((highest, True), (highest + 1, False)):
                row = [least if label == word else 2000 for word in (2, 3)]
                assert bool(judge_track(track, sums, row, detector, FEATURES).heard) == heard


def test_synthetic_speech_repeats_and_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    first = synthetic_speech.continuous_speech("espeak-ng", 0.2, QUIET)
    again = synthetic_speech.continuous_speech("espeak-ng", 0.2, QUIET)
    assert sum(len(pcm) for _, pcm in first) >= 0.2 * 60 * RATE_HZ
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(TrainerError, match="flite: not found; install it"):
        synthetic_speech.say("flite", "hello", synthetic_speech.ENGLISH, np.random.default_rng(0))


def test_vocabulary_holds_no_word_of_speech_commands() -> None:
    from trainer.data.synthetic import OTHER_WORDS

    words = synthetic_speech.VOCABULARY.read_text().split()
    assert len(words) > 1000 and len(set(words)) == len(words)
    assert not set(words) & {*OTHER_WORDS, "follow", "forward", "learn", "sheila", "visual", "yes", "stop"}


@pytest.mark.slow
def test_stream_run_from_recordings_to_thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train, qat (with a training for each group left out) and export on generated sounds; resumed runs are equal."""
    monkeypatch.chdir(tmp_path)
    data = make(tmp_path / "data")
    rng = np.random.default_rng(3)
    talks = []
    for speaker in ("anna", "berta", "carl"):
        sound = np.concatenate([tone(0.3, 4000, hz) for hz in rng.uniform(200, 3000, 120)])
        write_wav(tmp_path / speaker / "talk.wav", sound)
        talks.append(tmp_path / speaker)
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    make_negatives(tmp_path / "negatives", (), talks, QUIET)
    source = steps.Source(str(data), negatives=str(tmp_path / "negatives"))
    spec = KwsSpec.of_words(["yes", "stop"])
    hard = HardNegatives(replace(HardNegatives().scenes, count=60), kept=20, rounds=1)
    settings = steps.default_settings(source, "tcn", 2, 0)
    settings = replace(settings, scenes=SceneSettings(count=300), hard=hard, batch=32)
    run = tmp_path / "run"
    steps.train_run(run, source, spec, "tcn", settings, QUIET)
    made = quantize.quantize_run(run, run, "qat", QuantOptions(8), None, None, QUIET)
    found = made.results["operating_point"]
    assert {row["source"] for row in found["left_out"]} == {"own-anna", "own-berta", "own-carl"}
    assert tuple(rate for rate, _ in made.detector.rates) == RATES
    assert made.detector.thresholds == dict(made.detector.rates)[0.5]
    steps.export_run(run, None, QUIET)
    again = quantize.quantize_run(run, run, "qat", QuantOptions(8), None, None, QUIET)
    assert again.detector == made.detector
    with pytest.raises(TrainerError, match="must be one of"):
        quantize.quantize_run(run, run, "qat", QuantOptions(8), None, None, QUIET, wanted=0.3)
