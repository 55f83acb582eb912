"""Which thresholds go with which rate of false accepts, from speakers the network has not heard.

The speakers of continuous training speech fall into FOLDS groups. For each group the whole training, float and
quantized, is done again without it, and that network hears the group. The pooled hours give thresholds in nats of mean
evidence; the run's own network, which has heard all of them, gets these in its own steps. They belong to the recipe and
not to one network, so these trainings have the seed FOLD_SEED whatever the run's own is, and serve all seeds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from converter.arrays import Float64, Int8, Int16, Int32, Int64
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec, FeatureSpec
from trainer.data.augment import LabelledClips, load_split
from trainer.data.cache import cached, digest, keep
from trainer.data.dataset import noise_backgrounds
from trainer.data.features import stream_features
from trainer.data.negatives import list_negatives, load_negatives
from trainer.data.scenes import FOLDS, Scenes, speaker_groups
from trainer.data.utterances import word_spans
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import Network, fold_norms
from trainer.network.quant_options import QuantOptions
from trainer.run.detector_tuning import evidence_sums
from trainer.run.fine_tune import calibrate, fine_tune, qat_settings
from trainer.run.fit import THREADS, TrainSettings, fit, predict, to_batch
from trainer.run.listening import (
    BED_DBFS,
    HEARD_S,
    Spoken,
    Track,
    Words,
    amplitude,
    evidence_of,
    inference_end,
    judge_track,
    noise_bed,
    play,
    summed,
)
from trainer.run.steps import CACHE, Source, architecture_of, pool_of, saved_settings, untrained
from trainer.workers import ended_at_once, worker_pool

SUMMED = 12  # inferences that the detector sums: half as many again as the loss, docs/spotter.md
RATES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # false accepts per hour
WANTED = 0.5
APART_HOPS = 25  # two false accepts of a word within a second are one
TAIL = 10  # highest peaks that the tail is fitted to
FOLD_SEED = 0
TRAINING = 2  # raised when the same settings train another network: what the folds' networks heard is kept by it
SHARES = 10  # of a word's equal part of the lowest rate: what a word gets at least, and the step it gets more by


@dataclass(frozen=True)
class Heard:
    """What a network that never heard a source made of it: mean evidence of SUMMED inferences in nats, float64 [k,
    words]."""

    source: str
    seconds: float
    evidence: Float64


def peaks(values: Float64, apart: int = APART_HOPS, least: float = -5.0) -> Float64:
    """The largest values, each at least `apart` places from a larger one, in descending order.

    >>> peaks(np.array([0.0, 3.0, 2.0, 0.0, 1.0]), apart=2).tolist()
    [3.0, 1.0]
    """
    free = values > least
    found = []
    for place in np.argsort(-values, kind="stable"):
        if not values[place] > least:
            break
        if free[place]:
            found.append(float(values[place]))
            free[max(0, place - apart + 1) : place + apart] = False
    return np.array(found)


def threshold_at(descending: Float64, expected: float) -> float:
    """The evidence that `expected` of these peaks exceed: between two of them, and for fewer than TAIL from an
    exponential tail, whose scale is the mean excess of the first TAIL over the next (peaks over threshold: Davison and
    Smith 1990, J. R. Stat. Soc. B 52). The very highest ones alone say little: another hour would have others.

    >>> round(threshold_at(np.array([5.0] * 10 + [4.0, 3.0]), 10 / np.e), 3)
    5.0
    """
    count, used = int(expected), min(TAIL, len(descending) - 1)
    if used > 0 and expected < used:
        base = descending[used]
        scale = (descending[:used] - base).mean()
        return float(base + scale * np.log(used / max(expected, 1e-3)))
    if count >= len(descending) - 1:
        return float(descending[-1]) if len(descending) else 0.0
    return float(descending[count - 1] + descending[count]) / 2


def rate_table(
    heard: Sequence[Heard], scale: float, average_count: int, reached: Sequence[Int32]
) -> dict[float, tuple[int, ...]]:
    """Rate -> thresholds of the sum, one per word, in steps of the network's logits of `scale`.

    reached: for every word the highest sum at each place where it is spoken. A rate is shared out among the words so
    that few of these are missed; from a rate to the next no threshold rises.
    """
    hours = sum(one.seconds for one in heard) / 3600
    words = len(reached)
    share = RATES[0] / (SHARES * words)  # false accepts an hour
    total = {rate: round(rate / share) for rate in RATES}
    limit = 255 * average_count
    thresholds = np.empty((words, total[RATES[-1]] + 1), np.int64)  # by word and shares that it has
    for word in range(words):
        found = np.sort(np.concatenate([peaks(h.evidence[:, word]) for h in heard]))[::-1]
        nats = [threshold_at(found, shares * share * hours) for shares in range(thresholds.shape[1])]
        steps = np.ceil(np.minimum.accumulate(nats) / scale * average_count)
        thresholds[word] = np.clip(steps, -limit, limit)
    missed = [np.searchsorted(np.sort(sums), row) for sums, row in zip(reached, thresholds, strict=True)]
    held, table = [1] * words, {}
    for rate in RATES:
        held = shared_out(missed, held, total[rate])
        table[rate] = tuple(int(row[shares]) for row, shares in zip(thresholds, held, strict=True))
    return table


def shared_out(missed: Sequence[Int64], held: Sequence[int], total: int) -> list[int]:
    """How many of `total` shares each word has in the end, who holds `held` now and misses missed[word][shares]: the
    next go where they save the most misses each, and those that save none to who has the fewest.

    >>> shared_out([np.array([9, 9, 2, 2, 2]), np.array([9, 8, 7, 6, 6])], [1, 1], 5)
    [2, 3]
    """
    now = list(held)
    while (left := total - sum(now)) > 0:
        more = np.arange(1, left + 1)
        saved = [(row[n] - row[n + more]) / more for row, n in zip(missed, now, strict=True)]
        word = max(range(len(now)), key=lambda w: (saved[w].max(), -now[w]))
        now[word] += int(saved[word].argmax()) + 1
    return now


def tune_for_streams(
    artifact: ModelArtifact,
    heard: Sequence[Heard],
    quant: QuantNetwork,
    source: Source,
    wanted: float,
    progress: Progress,
) -> ModelArtifact:
    """The artifact with the thresholds for `wanted` false accepts per hour and the table of RATES, from what `left_out`
    gave."""
    selection = source.selection(artifact.spec, progress)
    validation = load_split(selection, "validation", CACHE, progress)
    noises = noise_backgrounds(selection, "validation")
    words = played_words(validation, noises, quant.features, artifact.detector)
    detector, miss_rate_at = chosen_by(heard, quant, words, artifact.detector, wanted)
    found = {
        "wanted_false_accepts_per_hour": wanted,
        "left_out": [{"source": h.source, "hours": round(h.seconds / 3600, 3)} for h in heard],
        "hours": round(sum(h.seconds for h in heard) / 3600, 3),
        "validation_words": int((validation.labels >= 2).sum()),
        "miss_rate_at": miss_rate_at,
    }
    return replace(artifact, detector=detector).with_results(operating_point=found)


def check_wanted(wanted: float) -> None:
    """Raises TrainerError for a rate that the table does not have; to be called before hours of training."""
    if wanted not in RATES:
        raise TrainerError(f"--false-accepts-per-hour: must be one of {', '.join(map(str, RATES))}, got {wanted}")


@dataclass(frozen=True, eq=False)
class PlayedWords:
    """Validation words played as docs/false_accepts.md says: int8 [m, channels] frames from the first inference's on,
    seconds, where each word is."""

    frames: Int8
    seconds: float
    spoken: tuple[Spoken, ...]


def played_words(
    validation: LabelledClips, noises: Sequence[Int16], features: FeatureSpec, detector: DetectorSpec
) -> PlayedWords:
    """All validation words, clean, as a board hears them from its reset."""
    known = validation.labels >= 2
    rate_hz, head = features.sample_rate_hz, detector.settle_frames * features.step_samples
    pcm = validation.pcm[known]
    spans = tuple((int(first), int(past)) for first, past in word_spans(pcm, rate_hz))
    words = Words(tuple(pcm), tuple(validation.labels[known].tolist()), spans)
    bed = noise_bed(noises, words.placed(head, rate_hz)[1]) * np.float32(amplitude(BED_DBFS))
    heard = stream_features(play(words, bed, head, rate_hz), features)
    before = np.full((features.frames - detector.hop_frames, features.channels), features.zero_point, np.int8)
    return PlayedWords(np.concatenate([before, heard]), len(bed) / rate_hz, words.spoken(head, rate_hz))


def chosen_by(
    heard: Sequence[Heard], quant: QuantNetwork, words: PlayedWords, untuned: DetectorSpec, wanted: float
) -> tuple[DetectorSpec, dict[str, float]]:
    """The network's detector with the table of RATES and the thresholds for `wanted`; rate -> share of the words that
    it misses."""
    evidence = evidence_of(stream_outputs(quant, words.frames))
    sums = summed(evidence, SUMMED)
    reached = highest_sums(sums, words.spoken, untuned, quant.features)
    table = rate_table(heard, logit_scale(quant), SUMMED, reached)
    detector = replace(untuned, average_count=SUMMED, thresholds=table[wanted], rates=tuple(table.items()))
    track = Track("validation", "words", words.seconds, evidence, words.spoken)
    named = {rate: judge_track(track, sums, row, detector, quant.features).heard for rate, row in detector.rates}
    return detector, {str(rate): round(1 - len(found) / max(1, len(words.spoken)), 4) for rate, found in named.items()}


def highest_sums(
    sums: Int32, spoken: Sequence[Spoken], detector: DetectorSpec, features: FeatureSpec
) -> tuple[Int32, ...]:
    """For every word, the highest of its sums int32 [k, words] at each place where it is spoken, while naming it
    counts."""
    rate_hz, hop = features.sample_rate_hz, detector.hop_frames * features.step_samples
    first_end = inference_end(0, features, detector.hop_frames)
    found: list[list[int]] = [[] for _ in range(sums.shape[1])]
    for word in spoken:
        first = max(0, -(-(word.start - first_end) // hop))
        past = (word.end + int(HEARD_S * rate_hz) - first_end - 1) // hop + 1
        found[word.label - 2].append(int(sums[first:past, word.label - 2].max(initial=np.iinfo(np.int32).min)))
    return tuple(np.array(one, np.int32) for one in found)


@contextmanager
def left_out(
    artifact: ModelArtifact, run: Path, source: Source, options: QuantOptions, progress: Progress
) -> Iterator[Callable[[], list[Heard]]]:
    """Trainings as RUN's without a group of speakers each begin beside what the block does; what it gets waits for
    them: every source of continuous training speech, heard by the network that was trained without its group."""
    assert source.negatives is not None
    streams = list_negatives(Path(source.negatives), artifact.spec.words, "train")
    groups = speaker_groups(streams)
    spoken = sorted({groups[stream.name] for stream in streams if stream.kind == "speech"})
    if not spoken:
        raise TrainerError(
            f"{source.negatives}: holds no continuous speech of training speakers, on which rates are counted; add "
            f"some with `python -m trainer negatives --out {source.negatives} --recordings DIR`"
        )
    jobs = [(run, artifact.path / "folds", source, options, group) for group in spoken]
    with ended_at_once(worker_pool(FOLDS)) as pool:
        found = pool.map(_without_group, *zip(*jobs, strict=True))

        def collected() -> list[Heard]:
            task = progress.add_task("trainings without a group of speakers", total=len(spoken))
            heard: list[Heard] = []
            for one in found:
                heard += one
                progress.advance(task)
            shutil.rmtree(artifact.path / "folds", ignore_errors=True)
            return heard

        yield collected


def _without_group(run: Path, folds: Path, source: Source, options: QuantOptions, group: int) -> list[Heard]:
    """One fold; its float and quantized training continue from FOLDS/GROUP, its result is kept in the cache."""
    artifact, quiet = ModelArtifact.load(run, older_detector=True), Progress(disable=True)
    settings, features = replace(saved_settings(artifact), seed=FOLD_SEED), artifact.spec.features
    assert source.negatives is not None
    negatives, words = Path(source.negatives), artifact.spec.words
    streams = list_negatives(negatives, words, "train")
    groups = speaker_groups(streams)
    with redirect_stderr(StringIO()):  # the command itself has warned of these clips
        selection = source.selection(artifact.spec, quiet)
    pool = pool_of(source, selection, settings, quiet)
    assert isinstance(pool, Scenes)
    pool = pool.without({group})
    architecture = architecture_of(artifact)
    left = [stream for stream in streams if groups[stream.name] == group and stream.kind == "speech"]
    key = {
        "training": TRAINING,
        "settings": asdict(settings),
        "options": asdict(options),
        "architecture": asdict(architecture),
        "start": digest(Path(source.start) / "float.pt") if source.start else None,
        "pool": pool.identity,
        "streams": [(stream.name, stream.sha256) for stream in left],
    }
    arrays = cached(CACHE, "fold_outputs", key)
    if arrays is None:
        validation = load_split(selection, "validation", CACHE, quiet)
        network = untrained(architecture, settings.seed, source.start)
        quant = train_quantized(folds / str(group), network, pool, validation, settings, options, features)
        heard = load_negatives(negatives, words, "train", {stream.name for stream in left})
        outputs = {stream.name: stream_outputs(quant, stream_features(pcm, features)) for stream, pcm in heard}
        arrays = {"scale": np.array(logit_scale(quant)), **outputs}
        keep(CACHE, "fold_outputs", key, arrays)
    return [Heard(one.name, one.seconds, mean_evidence(arrays[one.name], float(arrays["scale"]))) for one in left]


def train_quantized(
    folder: Path,
    network: Network,
    pool: Scenes,
    validation: LabelledClips,
    settings: TrainSettings,
    options: QuantOptions,
    features: FeatureSpec,
) -> QuantNetwork:
    """Float training and QAT in one go, as `train` and `qat` do them; continues from checkpoints in the folder."""
    torch.set_num_threads(THREADS)
    folder.mkdir(parents=True, exist_ok=True)
    quiet = Progress(disable=True)
    fit(network, pool, validation, settings, features, folder / "training.pt", quiet)
    quant = QuantNetwork(fold_norms(network), features, options)
    calibrate(quant, pool, settings.seed)
    tuned = qat_settings(settings, None, options.bits)
    fine_tune(quant, pool, validation, tuned, folder / "qat_training.pt", quiet)
    return quant.eval()


def mean_evidence(outputs: Int8, scale: float) -> Float64:
    """float64 [k, words]: mean evidence in nats of SUMMED inferences after every hop of a stream; outputs int8 [k,
    labels] in steps of `scale`."""
    return evidence_sums(outputs, SUMMED) * (scale / SUMMED)


def logit_scale(quant: QuantNetwork) -> float:
    """Nats of a step of its outputs."""
    return float(quant.output_quant("logits")[0])


def stream_outputs(quant: QuantNetwork, frames: Int8) -> Int8:
    """int8 [k, labels] of every window of a stream's frames int8 [m, channels], two frames apart."""
    size = quant.features.frames
    starts = np.arange(0, len(frames) - size + 1, 2)
    if not quant.streams:
        windows = np.lib.stride_tricks.sliding_window_view(frames, size, axis=0).transpose(0, 2, 1)[::2]
        return quant_outputs(quant)(windows)
    piece = 4096  # windows at a time
    found = []
    for start in starts[::piece]:
        part = frames[start : start + 2 * (piece - 1) + size]
        with torch.no_grad():
            found.append(quant.eval()(to_batch(part[None], quant.features)).flatten(0, -2))
    return _integers(quant, torch.cat(found))


def quant_outputs(quant: QuantNetwork) -> Callable[[Int8], Int8]:
    """A function from features int8 [n, frames, channels] to int8 logits [n, labels]."""
    return lambda windows: _integers(quant, predict(quant, windows, quant.features))


def _integers(quant: QuantNetwork, logits: torch.Tensor) -> Int8:
    scale, zero_point = (float(value) for value in quant.output_quant("logits"))
    real = logits.numpy().astype(np.float64)
    found: Int8 = np.clip(np.rint(real / scale) + zero_point, -128, 127).astype(np.int8)
    return found
