"""Takes of one word: found in recordings of any length, cut to a second, set to one level, and kept under the names of
Speech Commands, DIR/<word>/<speaker>_nohash_<n>.wav, so that a data folder grows out of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.arrays import Int16
from converter.audio.wav import SUFFIXES
from converter.spec import FeatureSpec, KwsSpec
from trainer.data.recordings import converted, read_pcm, recordings_of, write_wav
from trainer.data.utterances import Utterance, active_rms, utterances
from trainer.errors import TrainerError

LEVEL_DB, MOST_GAIN_DB, LEAST_LEVEL_DB = -20.0, 30.0, -66.0  # of active speech, dB of full scale
FULL, CLIPPED_SHARE = 0.98, 0.01  # of the samples of a word that may reach so much of full scale
ROOM_S = 0.03  # that a take keeps from the utterances beside it
MOST_NAME = 64
UNUSABLE = set('/\\:*?"<>|')


@dataclass(frozen=True)
class Take:
    """A loud stretch of a recording: from where, how long, and its second, int16 [clip_samples]; none (empty) where
    `fault` says why it is no take."""

    at_s: float
    seconds: float
    pcm: Int16
    fault: str = ""


@dataclass(frozen=True)
class Imported:
    """What became of a recording: takes that were written, how many were there already, what was skipped and why; or
    why the whole of it gave nothing."""

    recording: Path
    written: tuple[tuple[Path, Take], ...] = ()
    there: int = 0
    skipped: tuple[Take, ...] = ()
    fault: str = ""


def find_takes(pcm: Int16, spec: FeatureSpec) -> list[Take]:
    """Every loud stretch of a recording at the spec's rate, in order. A take is the second around its word, moved where
    the recording or another utterance would end it, with zeros only where the recording has no sound.

    Its active speech has -20 dBFS, or less where it would clip or the gain exceed 30 dB. Refused: what lasts longer
    than a take, has no voice, is a click, clipped, below -66 dBFS, or has no second of its own.
    """
    rate_hz, found = spec.sample_rate_hz, utterances(pcm, spec.sample_rate_hz)
    speech = [one for one in found if not one.fault]
    offset, takes, guard = float(pcm.mean()) if len(pcm) else 0.0, [], int(ROOM_S * rate_hz)
    for one in found:
        before = max((other.past + guard for other in speech if other.past <= one.first), default=None)
        after = min((other.first - guard for other in speech if other.first >= one.past), default=None)
        cut, fault = _second(pcm, one, before, after, offset, spec)
        takes.append(Take(one.first / rate_hz, (one.past - one.first) / rate_hz, cut, fault))
    return takes


def _second(
    pcm: Int16, one: Utterance, before: int | None, after: int | None, offset: float, spec: FeatureSpec
) -> tuple[Int16, str]:
    """The take of an utterance between two places that others reach (None: none does), or why it is none."""
    samples, rate_hz, none = spec.clip_samples, spec.sample_rate_hz, np.zeros(0, np.int16)
    word = pcm[one.first : one.past]
    if one.fault:
        return none, one.fault
    if len(word) > samples:
        return none, f"lasts {len(word) / rate_hz:.2f} s, a take holds {samples / rate_hz:g} s; say the word alone"
    low, high = min(before or 0, one.first), max(len(pcm) if after is None else after, one.past)
    if before is not None and after is not None and high - low < samples:
        return none, "too close to what was said before and after it; leave half a second between takes"
    if (np.abs(word.astype(np.int32)) >= FULL * 32768).mean() > CLIPPED_SHARE:
        return none, "clipped; lower the microphone's level, or speak from further away"
    level_db = 20 * np.log10(max(active_rms(word - offset, rate_hz), 1e-9) / 32768)
    if level_db < LEAST_LEVEL_DB:
        return none, f"too quiet ({level_db:.0f} dBFS); raise the microphone's level, or speak closer to it"
    least, most = sorted((low, high - samples))
    start = int(np.clip((one.first + one.past - samples) // 2, least, most))
    sound = pcm[max(start, low) : min(start + samples, high)] - offset
    gain = min(10 ** ((LEVEL_DB - level_db) / 20), 10 ** (MOST_GAIN_DB / 20), 32767 / max(np.abs(sound).max(), 1))
    cut, at = np.zeros(samples, np.int16), max(0, low - start)
    cut[at : at + len(sound)] = np.rint(sound * gain)
    return cut, ""


def word_folder(out: Path, word: str) -> Path:
    """Where takes of a word belong; raises SpecError or TrainerError for what cannot be one."""
    (spelt,) = KwsSpec.of_words([word]).words
    if spelt.startswith("_"):
        raise TrainerError(f"--word {word}: a word does not begin with _, which marks folders of noise; choose another")
    if "," in spelt:
        raise TrainerError(f"--word {word}: a word has no comma, which parts words; record one word at a time")
    return out / spelt


def usable_speaker(name: str, where: str) -> str:
    """The name again; raises TrainerError where no file name can begin with it."""
    fits = name.isprintable() and name == name.strip() and 0 < len(name.encode(errors="replace")) <= MOST_NAME
    if not fits or set(name) & UNUSABLE or name[0] in "._" or "_nohash_" in name:
        raise TrainerError(
            f"{where}: a speaker's name begins a file name, so it is printable, at most {MOST_NAME} bytes, without "
            f"{' '.join(sorted(UNUSABLE))}, `_nohash_`, or a dot, _ or space in front, got `{name}`; "
            f"give another by --speaker"
        )
    return name


def takes_of(folder: Path, speaker: str = "") -> list[Path]:
    """Takes in a word's folder, of one speaker by number, else of all by name."""
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    if not speaker:
        return sorted(files)
    return [file for number, file in sorted((_number(file, speaker), file) for file in files) if number >= 0]


def _number(file: Path, speaker: str) -> int:
    found = re.fullmatch(r"_nohash_(\d{1,9})", file.stem[len(speaker) :]) if file.stem.startswith(speaker) else None
    return int(found[1]) if found else -1


def write_take(folder: Path, speaker: str, pcm: Int16, spec: FeatureSpec) -> Path:
    """The take under the number after the speaker's last, written whole or not at all. The caller is alone in the
    folder. Raises WriteError."""
    there = takes_of(folder, speaker)
    path = folder / f"{speaker}_nohash_{_number(there[-1], speaker) + 1 if there else 0}.wav"
    write_wav(path, pcm, spec.sample_rate_hz)
    return path


def import_takes(
    sources: Sequence[Path], out: Path, word: str, speaker: str | None = None, spec: FeatureSpec | None = None
) -> Iterator[Imported]:
    """Looks for the word in each recording, and in each below a folder, and writes its takes to out/word; one that is
    there already, by its samples, is not written again. Takes of the word that lie below a folder are no recordings.

    Without a speaker it is `me`, or the names of the folders where recordings lie in several. Raises TrainerError, with
    nothing written, for a word or speaker that cannot be.
    """
    spec, folder = spec or FeatureSpec(), word_folder(out, word)
    files, faults = [], []
    for source in sources:
        found = recordings_of(source)
        if source.is_dir():
            found = [file for file in found if folder.resolve() not in file.resolve().parents]
        if not found:
            faults.append(Imported(source, fault=f"{source}: must hold recordings, got none; name another folder"))
        files += found
    files = list(dict.fromkeys(files))
    homes = {file: file.absolute().parent for file in files}
    several = len(set(homes.values())) > 1
    if speaker is not None:
        usable_speaker(speaker, "--speaker")
    by = {file: speaker or (usable_speaker(homes[file].name, str(file)) if several else "me") for file in files}
    yield from faults
    known = {_digest(pcm): file for file in takes_of(folder) if (pcm := _read(file, spec)) is not None}
    for file in files:
        yield _import(file, folder, by[file], known, spec)


def _import(file: Path, folder: Path, speaker: str, known: dict[str, Path], spec: FeatureSpec) -> Imported:
    try:
        pcm = converted(file, spec)
    except TrainerError as error:
        return Imported(file, fault=str(error))
    takes, written, there = find_takes(pcm, spec), [], 0
    for take in takes:
        if take.fault:
            continue
        if (digest := _digest(take.pcm)) in known:
            there += 1
            continue
        known[digest] = write_take(folder, speaker, take.pcm, spec)
        written.append((known[digest], take))
    skipped = tuple(take for take in takes if take.fault)
    fault = ""
    if not written and not there:
        heard = "what was heard is no word" if skipped else "nothing rises above the background"
        fault = f"{file}: no take of the word in {len(pcm) / spec.sample_rate_hz:.1f} s, {heard}; record it again"
    return Imported(file, tuple(written), there, skipped, fault)


def _digest(pcm: Int16) -> str:
    return hashlib.sha256(pcm.tobytes()).hexdigest()


def _read(file: Path, spec: FeatureSpec) -> Int16 | None:
    try:
        return read_pcm(file, spec)
    except TrainerError:
        return None
