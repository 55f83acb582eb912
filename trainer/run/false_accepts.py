"""False accepts per hour against words missed, of an exported model on recordings that training never heard.

The rules and what is played are in docs/false_accepts.md; the arithmetic is in trainer/run/listening.py.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np
from rich.progress import Progress

from converter.aot.native import NativeModel
from converter.aot.stream_plan import plan_stream
from converter.arrays import Float32, Int8, Int16
from converter.compiler import find_compiler
from converter.errors import ConvertError
from converter.files import scratch_folder, write_atomic
from converter.graph import Graph
from converter.onnx_qdq.reader import read_onnx
from converter.reference import run_batch
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec, FeatureSpec
from converter.target import SAMPLE_RATE_HZ
from trainer.data import negatives
from trainer.data.cache import digest
from trainer.data.dataset import (
    SUFFIXES,
    VOICES_FOLDER,
    Clip,
    Selection,
    in_sha256_order,
    load,
    noise_backgrounds,
    which_set,
)
from trainer.data.ffmpeg import decode
from trainer.data.utterances import word_spans
from trainer.errors import TrainerError
from trainer.run import listening
from trainer.run.detector_tuning import board_windows, decide
from trainer.run.listening import BED_DBFS, LEVEL_DBFS, RATES, SNRS_DB, Judged, Track, Words

CHUNK = 2048  # inferences between two steps of the progress bar
MOST_WORKERS = 4  # each holds a condition's PCM: about 0.4 GB an hour
MOST_PER_HOUR = 100.0  # false accepts in the picture, unless the shipped point has more
BABBLE_S = 60  # of negatives that babble is made of at least
UNHEARD: Int16 = np.zeros((0, 0), np.int16)
Advance = Callable[[int], None]
Logits = Callable[[Int8], Float32]  # of windows [n, frames, channels]: [n, labels]
Job = tuple[Track, Callable[[], Int16]]


@dataclass(frozen=True)
class Listening:
    """What `trainer evaluate` is to listen to: folders of negatives, a data folder of words if not the run's own, and a
    file for every inference's evidence."""

    negative: tuple[Path, ...]
    positive: Path | None = None
    scores: Path | None = None


@dataclass(frozen=True)
class Engine:
    """A network over a stream: int16 PCM, as heard from a reset, to outputs [k, labels], int8 of the exported model."""

    name: str
    workers: int
    hear: Callable[[Int16, Advance], Int8 | Int16]


def measure(
    artifact: ModelArtifact, selection: Selection, asked: Listening, float_logits: Logits | None, progress: Progress
) -> dict[str, Any]:
    """The figures of docs/false_accepts.md; writes `asked.scores` if one is named. float_logits, of a network that ends
    in logits: its curve stands beside the exported model's. Raises TrainerError."""
    if not artifact.onnx.is_file():
        raise TrainerError(f"{artifact.onnx}: not there yet; run `python -m trainer export {artifact.path}` first")
    spoken_of = negative_sources(asked.negative, artifact.spec.words, progress)
    graph = read_onnx(artifact.onnx.read_bytes())
    jobs, skipped = _jobs(artifact, selection, asked, spoken_of)
    with scratch_folder() as folder:
        engine = open_engine(graph, artifact.spec.features, artifact.detector, folder)
        tracks = hear(engine, jobs, artifact.detector, artifact.spec.features, progress)
    if asked.scores:
        write_atomic(asked.scores, (scores_json(artifact, graph.model_id, tracks) + "\n").encode())
    result = figures(artifact.spec.labels, tracks, artifact.detector, artifact.spec.features, progress)
    if float_logits is not None:
        result["float"] = _float_points(float_logits, graph, jobs, artifact, progress)
    words = (asked.positive or selection.folder).resolve().name
    return {"engine": engine.name, "words_from": words, **result, "skipped": skipped}


def _float_points(
    logits: Logits, graph: Graph, jobs: Sequence[Job], artifact: ModelArtifact, progress: Progress
) -> list[dict[str, Any]]:
    """What the float network misses at the rates of the curve: its logits in steps of the model's outputs, by the same
    detector."""
    detector, features = artifact.detector, artifact.spec.features
    step = graph.tensors[graph.output].quant.scales[0]

    def in_steps(windows: Int8) -> Int16:
        found: Int16 = np.clip(np.rint(logits(windows) / step), -8192, 8191).astype(np.int16)
        return found

    def hear_float(pcm: Int16, advance: Advance) -> Int8 | Int16:
        return _in_chunks(board_windows(pcm, features, detector.hop_frames), in_steps, advance)

    played = [job for job in jobs if job[0].kind in ("negative", "words")]
    tracks = hear(Engine("the float network", 1, hear_float), played, detector, features, progress)
    curve = listening.sweep(tracks, detector, features)
    hours = sum(track.seconds for track in tracks if track.kind == "negative") / 3600
    return _points(curve, hours)


def negative_sources(folders: Sequence[Path], words: Sequence[str], progress: Progress) -> list[tuple[Track, Int16]]:
    """A stream a source: the test speakers of a folder of `trainer negatives`, any other folder as one."""
    found: list[tuple[Track, Int16]] = []
    task = progress.add_task("negatives: folders", total=len(folders))
    for folder in folders:
        if (folder / negatives.INDEX).is_file():
            for stream, pcm in negatives.load_negatives(folder, words, "test"):
                if stream.kind == "speech":
                    found.append((_negative(stream.name, pcm, stream.speaker, stream.language, stream.licence), pcm))
        else:
            pcm = _all_recordings(folder)
            found.append((_negative(folder.resolve().name, pcm, folder.resolve().name, "not told", "not told"), pcm))
        progress.advance(task)
    names = Counter(track.name for track, _ in found)
    for track, pcm in found:
        if names[track.name] > 1:
            raise TrainerError(f"--negative: {names[track.name]} sources are named {track.name}; rename a folder")
        if len(pcm) < SAMPLE_RATE_HZ:
            raise TrainerError(f"--negative: {track.name} holds {len(pcm)} samples, less than a second; leave it out")
    return found


def _negative(name: str, pcm: Int16, *facts: str) -> Track:
    return Track(name, "negative", len(pcm) / SAMPLE_RATE_HZ, UNHEARD, (), *facts)


def _all_recordings(folder: Path) -> Int16:
    if not folder.is_dir():
        raise TrainerError(f"{folder}: no such folder; --negative takes one of recordings or of `trainer negatives`")
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in negatives.SUFFIXES]
    if not files:
        suffixes = ", ".join(sorted(negatives.SUFFIXES))
        raise TrainerError(f"{folder}: holds no recordings; sound files end in {suffixes}")
    batches = range(0, len(files), negatives.BATCH)
    return np.concatenate([pcm for at in batches for pcm in decode(files[at : at + negatives.BATCH])])


def _jobs(
    artifact: ModelArtifact, selection: Selection, asked: Listening, spoken_of: Sequence[tuple[Track, Int16]]
) -> tuple[list[Job], list[str]]:
    """Every stream that is to be heard, with what makes its PCM; and what was left out, with the reason."""
    spec, rate_hz = artifact.spec.features, artifact.spec.features.sample_rate_hz
    head = artifact.detector.settle_frames * spec.step_samples
    noises = noise_backgrounds(selection, "test")
    words = own_words(artifact, selection, asked.positive)
    jobs: list[Job] = [(track, partial(np.asarray, pcm)) for track, pcm in spoken_of]

    def add(name: str, kind: str, played: Words, bed: Callable[[int], Float32], level_dbfs: float | None) -> None:
        samples = played.placed(head, rate_hz)[1]
        track = Track(name, kind, samples / rate_hz, UNHEARD, played.spoken(head, rate_hz))
        jobs.append((track, lambda: listening.play(played, bed(samples), head, rate_hz, level_dbfs)))

    def noise(dbfs: float, samples: int) -> Float32:
        return listening.noise_bed(noises, samples) * np.float32(listening.amplitude(dbfs))

    def babble(dbfs: float, samples: int) -> Float32:
        return listening.babble(voices, samples, rate_hz) * np.float32(listening.amplitude(dbfs))

    add("clean", "words", words, partial(noise, BED_DBFS), None)
    for snr in SNRS_DB:
        add(f"noise {snr} dB", "words", words, partial(noise, LEVEL_DBFS - snr), LEVEL_DBFS)
    if (selection.folder / VOICES_FOLDER).is_dir():
        folder, numbered = selection.folder / VOICES_FOLDER, enumerate(artifact.spec.words, 2)
        strange = [clip for label, word in numbered for clip in _all_clips(folder, word, label)]
        add("synthetic voices", "voices", _spoken(strange, spec), partial(noise, BED_DBFS), None)
    voices, skipped = np.concatenate([pcm for _, pcm in spoken_of]), []
    if len(voices) >= BABBLE_S * rate_hz:
        for snr in SNRS_DB:
            add(f"babble {snr} dB", "words", words, partial(babble, LEVEL_DBFS - snr), LEVEL_DBFS)
    else:
        have = len(voices) / rate_hz
        skipped.append(f"babble: made of at least {BABBLE_S} s of negatives, there are {have:.0f} s")
    others = _other_words(artifact, asked.positive or selection.folder)
    if others:
        for word, played in others.items():
            add(word, "other words", played, partial(noise, BED_DBFS), None)
    else:
        skipped.append("other words: the data folder holds no test clips of any")
    return jobs, skipped


def _all_clips(folder: Path, word: str, label: int) -> list[Clip]:
    files = {f"{word}/{f.stem}": f for f in sorted((folder / word).glob("*")) if f.suffix.lower() in SUFFIXES}
    return [Clip(name, files[name], label) for name in in_sha256_order(files)]


def _test_clips(folder: Path, word: str, label: int) -> list[Clip]:
    return [clip for clip in _all_clips(folder, word, label) if which_set(clip.name) == "test"]


def own_words(artifact: ModelArtifact, selection: Selection, positive: Path | None) -> Words:
    """Every test clip of the words, in SHA-256 order of their names. Of a folder of few speakers, or for a run that
    was split by take, all but those that training or validation heard."""
    clips = {clip.name: clip for clip in selection.clips["test"] if clip.label >= 2}
    if positive is not None:
        clips = {}
        known = {digest(c.path) for split in ("train", "validation") for c in selection.clips[split] if c.label >= 2}
        for label, word in enumerate(artifact.spec.words, 2):
            found = [] if selection.by_take else _test_clips(positive, word, label)
            found = found or [c for c in _all_clips(positive, word, label) if digest(c.path) not in known]
            if not found:
                raise TrainerError(
                    f"{positive}: no clips of the word '{word}' but those of the training; name a folder shaped like "
                    f"Speech Commands"
                )
            clips |= {clip.name: clip for clip in found}
    return _spoken([clips[name] for name in in_sha256_order(clips)], artifact.spec.features)


def _spoken(clips: Sequence[Clip], spec: FeatureSpec) -> Words:
    pcm = load(clips, "test", spec)
    spans = [(int(first), int(past)) for first, past in word_spans(pcm, spec.sample_rate_hz)]
    return Words(tuple(pcm), tuple(clip.label for clip in clips), tuple(spans))


def _other_words(artifact: ModelArtifact, folder: Path) -> dict[str, Words]:
    """The test clips of each word of a data folder that is no label; a clip is a word from its start to its end."""
    found = {}
    spec = artifact.spec.features
    for word in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        if word in artifact.spec.labels or word.startswith(("_", ".")):
            continue
        pcm = load(_test_clips(folder, word, 1), "test", spec)
        if len(pcm):
            found[word] = Words(tuple(pcm), (1,) * len(pcm), ((0, spec.clip_samples),) * len(pcm))
    return found


def open_engine(graph: Graph, features: FeatureSpec, detector: DetectorSpec, folder: Path) -> Engine:
    """The fastest exact way here: the generated C compiled for this machine, hop by hop where the model streams; the
    numpy reference where there is no compiler."""
    if find_compiler() is None:

        def by_reference(pcm: Int16, advance: Advance) -> Int8 | Int16:
            windows = board_windows(pcm, features, detector.hop_frames)
            return _in_chunks(windows, lambda w: run_batch(graph, np.ascontiguousarray(w)[..., None]), advance)

        return Engine("the numpy reference, for there is no C compiler", 1, by_reference)
    try:
        plan_stream(graph, detector.hop_frames)
        streams = True
    except ConvertError:
        streams = False
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    free: SimpleQueue[NativeModel] = SimpleQueue()
    first = NativeModel(graph, folder, simd=True, hop_frames=detector.hop_frames)
    for number in range(workers):
        free.put(first.twin(f"{number}.so"))
    silence = np.full((features.frames, features.channels), features.zero_point, np.int8)

    def compiled(pcm: Int16, advance: Advance) -> Int8 | Int16:
        windows = board_windows(pcm, features, detector.hop_frames)
        model = free.get()
        try:
            if not streams:
                return _in_chunks(windows, model.outputs, advance)
            model.stream_start(silence)
            return _in_chunks(windows[:, -detector.hop_frames :], model.stream_outputs, advance)
        finally:
            free.put(model)

    return Engine("the generated C" + (", hop by hop" if streams else ", whole windows"), workers, compiled)


def _in_chunks(windows: Int8, score: Callable[[Int8], Int8 | Int16], advance: Advance) -> Int8 | Int16:
    found: list[Any] = []
    for at in range(0, len(windows), CHUNK):
        found.append(score(windows[at : at + CHUNK]))
        advance(len(found[-1]))
    outputs: Int8 | Int16 = np.concatenate(found).reshape(len(windows), -1)
    return outputs


def hear(
    engine: Engine, jobs: Sequence[Job], detector: DetectorSpec, features: FeatureSpec, progress: Progress
) -> list[Track]:
    """The tracks of the jobs, in their order, with the evidence of every inference."""
    each_s = detector.hop_frames * features.step_ms / 1000
    task = progress.add_task("listening: inferences", total=round(sum(t.seconds for t, _ in jobs) / each_s))
    stop = Event()

    def advance(count: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        progress.advance(task, count)

    def one(job: Job) -> Track:
        return replace(job[0], evidence=listening.evidence_of(engine.hear(job[1](), advance)))

    with ThreadPoolExecutor(engine.workers) as pool:
        try:
            tracks = list(pool.map(one, jobs))
            progress.update(task, total=sum(len(track.evidence) for track in tracks))
            return tracks
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def figures(
    labels: Sequence[str], tracks: Sequence[Track], detector: DetectorSpec, features: FeatureSpec, progress: Progress
) -> dict[str, Any]:
    """The shipped operating point, the rows of the board's rate table, others, the curve, and what other words are
    taken for, as JSON."""

    def judged(track: Track, thresholds: Sequence[int] = detector.thresholds) -> Judged:
        sums = listening.summed(track.evidence, detector.average_count)
        return listening.judge_track(track, sums, thresholds, detector, features)

    negative = [track for track in tracks if track.kind == "negative"]
    words = [track for track in tracks if track.kind == "words"]
    hours = sum(track.seconds for track in negative) / 3600
    task = progress.add_task("listening: curve", total=None)
    curve = listening.sweep(
        tracks, detector, features, lambda done, total: progress.update(task, completed=done + 1, total=total)
    )
    shipped = curve.shifts.index(0)
    tuned = []
    for rate, row in detector.rates:
        events = sum(len(judged(track, row).false_accepts) for track in negative)
        misses = {track.name: len(track.spoken) - len(judged(track, row).heard) for track in words}
        tuned.append({"rate": rate, "thresholds": row, **rate_figures(events, hours), "misses": misses})
    return {
        "hours": round(hours, 3),
        "speakers": len({track.speaker for track in negative}),
        "sources": [source_figures(track, judged(track), labels) for track in negative],
        "conditions": [_condition(track, judged(track), labels) for track in words],
        "other_words": [_other(track, judged(track), labels) for track in tracks if track.kind == "other words"],
        "voices": [_condition(track, judged(track), labels) for track in tracks if track.kind == "voices"],
        "shipped": _point(curve, shipped, hours),
        "tuned": tuned,
        "points": _points(curve, hours),
        "curve": _curve(curve, shipped, hours),
    }


def rate_figures(events: int, hours: float) -> dict[str, Any]:
    """False accepts, their rate and the bound of the rate, as JSON."""
    bound = listening.rate_bound(events, hours)
    return {"false_accepts": events, "per_hour": round(events / hours, 3), "bound": round(bound, 3)}


def _point(curve: listening.Curve, place: int, hours: float) -> dict[str, Any]:
    misses = {name: row[place] for name, row in curve.misses.items()}
    return {"shift": curve.shifts[place], **rate_figures(curve.total[place], hours), "misses": misses}


def _points(curve: listening.Curve, hours: float) -> list[dict[str, Any]]:
    return [{"at_most": rate, **_point(curve, listening.point_at(curve, rate, hours), hours)} for rate in RATES]


def _curve(curve: listening.Curve, shipped: int, hours: float) -> dict[str, Any]:
    """The curve, and the places that are drawn, first and past last: from MOST_PER_HOUR, or three times what is
    shipped, to the first without a false accept, or what is shipped."""
    most = max(MOST_PER_HOUR, 3 * curve.total[shipped] / hours)
    drawn = listening.point_at(curve, most, hours), max(listening.point_at(curve, 0, hours), shipped) + 1
    rows = {"false_accepts": curve.false_accepts, "misses": curve.misses, "total": curve.total}
    return {"shifts": curve.shifts, **rows, "drawn": drawn}


def _named(labels: Sequence[str], found: Mapping[int, int]) -> dict[str, int]:
    return {word: found.get(label, 0) for label, word in enumerate(labels) if label >= 2}


def source_figures(track: Track, judged: Judged, labels: Sequence[str]) -> dict[str, Any]:
    """What was made of a source of negatives, as JSON; labels 0 and 1 are no words."""
    per_word = _named(labels, Counter(label for _, label in judged.false_accepts))
    facts = {"name": track.name, "speaker": track.speaker, "language": track.language, "licence": track.licence}
    hours = track.seconds / 3600
    return {**facts, "hours": round(hours, 3), **rate_figures(len(judged.false_accepts), hours), "per_word": per_word}


def _condition(track: Track, judged: Judged, labels: Sequence[str]) -> dict[str, Any]:
    missed = Counter(w.label for index, w in enumerate(track.spoken) if index not in judged.heard)
    return {
        "name": track.name,
        "seconds": round(track.seconds, 1),
        "words": len(track.spoken),
        "misses": missed.total(),
        "per_word": _named(labels, missed),
        "words_per_word": _named(labels, Counter(w.label for w in track.spoken)),
        "confusions": len(judged.confused),
        "false_accepts": len(judged.false_accepts),
    }


def _other(track: Track, judged: Judged, labels: Sequence[str]) -> dict[str, Any]:
    taken = {labels[label]: n for label, n in Counter(judged.confused.values()).most_common()}
    return {"word": track.name, "n": len(track.spoken), "taken": len(judged.confused), "as": taken}


def scores_json(artifact: ModelArtifact, model_id: str, tracks: Sequence[Track]) -> str:
    """What docs/false_accepts.md says of `--scores`: all that the figures can be recomputed from."""
    spec, detector = artifact.spec, artifact.detector
    streams = []
    for track in tracks:
        sums = listening.summed(track.evidence, detector.average_count)
        facts = {key: getattr(track, key) for key in ("name", "kind", "seconds", "speaker", "language", "licence")}
        evidence = dict(zip(spec.words, track.evidence.T.tolist(), strict=True))
        decided = decide(sums, detector.thresholds, detector)
        spoken = [[word.label, word.start, word.end] for word in track.spoken]
        streams.append({**facts, "spoken": spoken, "evidence": evidence, "decisions": decided})
    about = {
        "model_id": model_id,
        "spec_id": spec.spec_id,
        "labels": spec.labels,
        "detector": {key: value for key, value in asdict(detector).items() if key != "rates"},
        "sample_rate_hz": spec.features.sample_rate_hz,
        "first_inference_sample": listening.inference_end(0, spec.features, detector.hop_frames),
        "hop_samples": detector.hop_frames * spec.features.step_samples,
    }
    return json.dumps({**about, "streams": streams}, separators=(",", ":"))
