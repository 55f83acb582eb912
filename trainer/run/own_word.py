"""The data folder of a person's own word: takes, other words, room sound.

TAKES/<word>/<speaker>_nohash_<n>.wav is what `trainer record` and `trainer audio --word` write, a second of 16 kHz mono
each, perhaps with TAKES/_background_noise_. A network needs more than takes: other words, which synthetic voices say,
and noise. The folder made here is shaped like Speech Commands, so that every command of the trainer takes it.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
from rich.progress import Progress

from converter.arrays import Int16
from converter.files import scratch_folder, write_atomic
from converter.spec import FeatureSpec, KwsSpec, composed
from converter.target import SAMPLE_RATE_HZ
from trainer.data.cache import cached, digest, keep
from trainer.data.dataset import NOISE_FOLDER, VOICES_FOLDER, clips_of, require_noise, splits_by_speaker
from trainer.data.recordings import pcm_samples, read_pcm, write_wav
from trainer.data.synthetic import NAMED_VARIANTS, SyntheticSettings, background
from trainer.data.synthetic_speech import ENGINES, ENGLISH, LANGUAGES, VOCABULARY, say
from trainer.data.takes import word_folder
from trainer.errors import TrainerError

OTHERS, OTHERS_EACH = 120, 2  # words of the vocabulary, and voices that say each of them
STRANGE_VOICES = 30  # that say each word for the test; training hears none of them
NOISE_S = 40
LIST = "takes.txt"  # what the folder is made of; written last
NOISES = ("white", "pink", "brown", "hum")


def data_folder(takes: Path, spec: KwsSpec, out: Path, cache: Path, progress: Progress) -> Path:
    """OUT as a data folder of the spec's words; made anew where TAKES or the words have changed. Raises
    TrainerError."""
    words = spec.words
    wanted = listed_takes(takes, words, spec.features)
    key = hashlib.sha256("\n".join(f"{name} {digest(file)}" for name, file in wanted.items()).encode()).hexdigest()
    if _holds(out, key):
        return out
    others = _other_words(cache, progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(out.parent) as scratch:
        made = scratch / "data"
        made.mkdir()
        for name, file in wanted.items():
            (made / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, made / name)
        for word in others.keys() - set(words):
            for number, pcm in enumerate(others[word]):
                write_wav(made / word / f"{word}{number}_nohash_0.wav", pcm)
        rng = np.random.default_rng(1)
        for word in words:
            for number in range(STRANGE_VOICES):
                pcm = say("espeak-ng", word, ENGLISH, rng, NAMED_VARIANTS)[:SAMPLE_RATE_HZ]
                write_wav(made / VOICES_FOLDER / word / f"voice{number}_nohash_0.wav", pcm)
        settings = SyntheticSettings(words, noise_s=NOISE_S)
        for name in NOISES:
            write_wav(made / NOISE_FOLDER / f"made-{name}.wav", background(name, settings, []))
        write_atomic(made / LIST, f"{key}\n".encode())
        if out.exists():
            out.rename(scratch / "before")
        made.rename(out)
    return out


def _other_words(cache: Path, progress: Progress) -> dict[str, Int16]:
    """Words of the vocabulary by OTHERS_EACH synthetic voices, int16 [OTHERS_EACH, samples]."""
    vocabulary = VOCABULARY.read_text().split()
    vocabulary = vocabulary[:: len(vocabulary) // OTHERS][:OTHERS]
    key = {"words": vocabulary, "each": OTHERS_EACH}
    found = cached(cache, "vocabulary", key)
    if found is None:
        rng = np.random.default_rng(0)
        task = progress.add_task("other words by synthetic voices", total=len(vocabulary))
        found = {word: np.zeros((OTHERS_EACH, SAMPLE_RATE_HZ), np.int16) for word in vocabulary}
        for word, clips in found.items():
            for number, clip in enumerate(clips):
                pcm = say(ENGINES[number % 2], word, LANGUAGES, rng)[:SAMPLE_RATE_HZ]
                clip[: len(pcm)] = pcm
            progress.advance(task)
        keep(cache, "vocabulary", key, found)
    return found


def _holds(out: Path, key: str) -> bool:
    try:
        return (out / LIST).read_text().strip() == key
    except (OSError, UnicodeDecodeError):
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise TrainerError(f"{out}: is not a data folder made of takes; move it away") from None
        return False


def listed_takes(takes: Path, words: tuple[str, ...], features: FeatureSpec) -> dict[str, Path]:
    """Name in the data folder -> file: the takes of every word, and room sound. Raises TrainerError for what training
    could not take."""
    if not takes.is_dir():
        raise TrainerError(f"{takes}: no such folder of takes; make one with `python -m trainer record`")
    found, names = dict[str, Path](), dict[str, tuple[str, ...]]()
    folders = {composed(folder.name): folder for folder in takes.iterdir()}
    for word in (*words, NOISE_FOLDER):
        spelt = word if word == NOISE_FOLDER else word_folder(takes, word).name
        clips = clips_of(folders.get(spelt, takes / spelt), word)
        files = tuple(clips.values())
        if not files and word in words:
            if composed(takes.resolve().name) == spelt:
                raise TrainerError(f"{takes}: must hold a folder '{word}', is one; name the folder around it")
            there = sorted(name for name, f in folders.items() if f.is_dir() and name not in (NOISE_FOLDER, spelt))
            holds = f"it holds {', '.join(there) or 'no word folders'}"
            holds = "its folder holds no WAV or FLAC file" if spelt in folders else holds
            raise TrainerError(
                f"{takes}: no takes of the word '{word}'; {holds}; "
                f"`python -m trainer audio RECORDINGS --word {word} --out {takes}` makes takes of recordings"
            )
        found |= {f"{word}/{file.name}": file for file in files}
        names |= {word: tuple(clips)} if word in words else {}
        for file in files:
            samples = pcm_samples(file, features)
            if word not in words:
                require_noise(file, samples, features)
            elif samples > features.clip_samples:
                length_ms = 1000 * samples // features.sample_rate_hz
                raise TrainerError(
                    f"{file}: a take lasts at most {features.clip_ms} ms, got {length_ms}; "
                    f"`python -m trainer audio {takes / word} --word {word} --out OTHER` cuts the word out"
                )
            elif np.ptp(read_pcm(file, features).astype(np.int32)) < 2:
                raise TrainerError(f"{file}: holds no sound; record it again, or remove it")
    splits_by_speaker(names, takes)
    return found
