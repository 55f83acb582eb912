"""Synthetic speech by espeak-ng as a Speech-Commands-shaped folder: many voices, pitches, speeds; own words; noise
recordings.

A smoke test of the line without any data set, never an accuracy: synthetic voices are far easier than people.
Equal settings give equal bytes on one version of espeak-ng. File names carry a speaker, so the official split applies.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from rich.progress import Progress

from converter.arrays import Float64, Int16
from converter.checked import Fields, Flag, rule_of
from converter.files import read_json_object, write_atomic
from converter.target import SAMPLE_RATE_HZ
from trainer.data.recordings import write_wav
from trainer.errors import TrainerError

CLIP_SAMPLES = SAMPLE_RATE_HZ  # one second
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")
NAMED_VARIANTS = (
    "Andy",
    "Annie",
    "Alicia",
    "belinda",
    "linda",
    "steph",
    "adam",
    "antonio",
    "max",
    "michel",
    "rob",
    "zac",
)
VARIANTS = ("", *(f"m{number}" for number in range(1, 8)), *(f"f{number}" for number in range(1, 6)), *NAMED_VARIANTS)
OTHER_WORDS = (
    "backward",
    "bed",
    "bird",
    "cat",
    "dog",
    "down",
    "eight",
    "five",
    "four",
    "go",
    "happy",
    "house",
    "left",
    "marvin",
    "nine",
    "no",
    "off",
    "on",
    "one",
    "right",
    "seven",
    "six",
    "stop",
    "three",
    "tree",
    "two",
    "up",
    "wow",
    "yes",
    "zero",
)
NOISES = ("white", "pink", "brown", "hum", "clicks", "babble")
MARKER = "synthetic.json"


@dataclass(frozen=True)
class SyntheticSettings:
    """Each speaker says every chosen word and `others` different words, once. `version` tells corpora of older code
    apart."""

    words: tuple[str, ...]
    speakers: int = 260
    others: int = 3
    noise_s: int = 40
    seed: int = 0
    version: int = 2


@dataclass(frozen=True)
class Utterance:
    """One call of espeak-ng and where its sound lies in the clip."""

    word: str
    speaker: str
    voice: str
    pitch: int
    words_per_minute: int
    level: float
    place: float

    @property
    def file(self) -> str:
        """Its path in a folder shaped like Speech Commands."""
        return f"{self.word}/{self.speaker}_nohash_0.wav"


def plan(settings: SyntheticSettings) -> list[Utterance]:
    """Every utterance of a corpus, decided by the seed alone."""
    found = []
    others = [w for w in OTHER_WORDS if w not in settings.words]
    for number in range(settings.speakers):
        rng = np.random.default_rng([settings.seed, number])
        speaker = hashlib.sha256(f"speaker/{settings.seed}/{number}".encode()).hexdigest()[:8]
        accent, variant = ACCENTS[int(rng.integers(len(ACCENTS)))], VARIANTS[int(rng.integers(len(VARIANTS)))]
        pitch, speed = int(rng.integers(15, 86)), int(rng.integers(125, 211))
        chosen = [others[i] for i in rng.permutation(len(others))[: settings.others]]
        for word in (*settings.words, *chosen):
            found.append(
                Utterance(
                    word,
                    speaker,
                    f"{accent}+{variant}" if variant else accent,
                    pitch,
                    speed,
                    float(rng.uniform(0.08, 0.8)),
                    float(rng.uniform(0.35, 0.65)),
                )
            )
    return found


def synthesize(settings: SyntheticSettings, folder: Path, progress: Progress) -> Path:
    """Make (or complete, or find finished) the corpus in `folder`; raises TrainerError when espeak-ng is missing or a
    word is unusable."""
    _check(settings, folder)
    if _is_complete(folder):
        return folder
    program = shutil.which("espeak-ng")
    if program is None:
        raise TrainerError("espeak-ng: not found, and synthetic speech needs it; install the system package espeak-ng")
    _mark(folder, settings, complete=False)
    utterances = plan(settings)
    task = progress.add_task("synthetic speech", total=len(utterances) + len(NOISES))

    missing = [u for u in utterances if not (folder / u.file).is_file()]
    progress.advance(task, len(utterances) - len(missing))
    with ThreadPoolExecutor(max_workers=3) as workers:
        for utterance, wav in zip(missing, workers.map(lambda u: speak(program, u), missing), strict=True):
            write_wav(folder / utterance.file, render(utterance, wav))
            progress.advance(task)
    voices = [soundfile.read(folder / u.file, dtype="int16")[0] for u in utterances[:60]]
    for name in NOISES:
        write_wav(folder / "_background_noise_" / f"{name}.wav", background(name, settings, voices))
        progress.advance(task)
    _mark(folder, settings, complete=True)
    return folder


def _check(settings: SyntheticSettings, folder: Path) -> None:
    for word in settings.words:
        if not re.fullmatch(r"[^\W_][\w' -]{0,30}", word):
            raise TrainerError(
                f"--words: a word starts with a letter or digit and has at most 31 characters, got '{word}'"
            )
    if not settings.words or len(set(settings.words)) != len(settings.words):
        raise TrainerError(f"--words: needs one or more different words, got {','.join(settings.words) or 'none'}")
    if not 40 <= settings.speakers <= 20000:
        raise TrainerError(f"--speakers: must be in 40..20000 so that each split has some, got {settings.speakers}")
    if folder.exists() and not folder.is_dir():
        raise TrainerError(f"{folder}: is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        found = _settings_of(folder)
        if found is None:
            raise TrainerError(f"{folder}: not empty and not a synthetic corpus; name a new folder")
        if found != json.loads(json.dumps(asdict(settings))):
            raise TrainerError(f"{folder}: holds a synthetic corpus of other settings; name a new folder")


def _settings_of(folder: Path) -> object:
    """The settings of the corpus that lies or is being made in a folder; None when it is no corpus."""
    return read_json_object(folder / MARKER, _MARK).get("settings")


def _mark(folder: Path, settings: SyntheticSettings, complete: bool) -> None:
    write_atomic(folder / MARKER, (json.dumps({"complete": complete, "settings": asdict(settings)}) + "\n").encode())


def _is_complete(folder: Path) -> bool:
    return bool(read_json_object(folder / MARKER, _MARK).get("complete"))


_MARK = Fields({"settings": rule_of(SyntheticSettings), "complete": Flag()})


def speak(program: str, utterance: Utterance) -> bytes:
    """What espeak-ng writes for an utterance: a WAV at its own rate."""
    command = [
        program,
        "--stdout",
        "-v",
        utterance.voice,
        "-p",
        str(utterance.pitch),
        "-s",
        str(utterance.words_per_minute),
        "--",
        utterance.word,
    ]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode != 0 or len(done.stdout) < 100:
        said = done.stderr.decode(errors="replace").strip()
        raise TrainerError(
            f"espeak-ng: could not say '{utterance.word}' with voice {utterance.voice}: {said or 'no sound came back'}"
        )
    data = bytearray(done.stdout)
    data[40:44] = (len(data) - 44).to_bytes(4, "little")  # a stream's header does not know its length
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    return bytes(data)


def render(utterance: Utterance, wav: bytes) -> Int16:
    """One second of 16 kHz PCM with the word somewhere in it, over a hiss of about -75 dB."""
    sound, rate = soundfile.read(io.BytesIO(wav), dtype="float64")
    spoken = _trim(resample_spectrum(sound, rate))
    spoken *= utterance.level / max(1e-6, float(np.abs(spoken).max()))
    rng = np.random.default_rng(int(utterance.speaker, 16))
    clip = rng.normal(0.0, 2e-4, CLIP_SAMPLES)
    start = int(utterance.place * (CLIP_SAMPLES - len(spoken)))
    clip[start : start + len(spoken)] += spoken
    pcm: Int16 = np.clip(np.rint(clip * 32767), -32768, 32767).astype(np.int16)
    return pcm


def resample_spectrum(sound: Float64, rate_hz: int) -> Float64:
    """At 16 kHz, by cutting the spectrum of the whole sound: thousands of clips need no better and no slower
    (recordings.resample)."""
    padded = np.concatenate([sound, np.zeros(-len(sound) % (rate_hz // 50))])  # whole 20 ms, so that the ratio is exact
    count = len(padded) * SAMPLE_RATE_HZ // rate_hz
    shaped = np.zeros(count // 2 + 1, np.complex128)
    spectrum = np.fft.rfft(padded)[: len(shaped)]
    shaped[: len(spectrum)] = spectrum
    return np.fft.irfft(shaped, count) * (count / len(padded))


def _trim(sound: Float64) -> Float64:
    """The sound without quiet ends; if longer than a clip, its loudest second."""
    loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
    sound = sound[loud[0] : loud[-1] + 1] if len(loud) else sound
    if len(sound) <= CLIP_SAMPLES:
        return sound
    energy = np.concatenate([[0.0], np.cumsum(sound**2)])
    start = int(np.argmax(energy[CLIP_SAMPLES:] - energy[:-CLIP_SAMPLES]))
    return sound[start : start + CLIP_SAMPLES]


def background(name: str, settings: SyntheticSettings, voices: list[Int16]) -> Int16:
    """A noise recording of `noise_s` seconds: coloured noise, mains hum, clicks or many voices at once."""
    count = settings.noise_s * SAMPLE_RATE_HZ
    rng = np.random.default_rng([settings.seed, 77, NOISES.index(name)])
    if name in ("white", "pink", "brown"):
        exponent = {"white": 0.0, "pink": 0.5, "brown": 1.0}[name]
        sound = _coloured(rng.normal(size=count), exponent)
    elif name == "hum":
        time = np.arange(count) / SAMPLE_RATE_HZ
        sound = sum(
            (np.sin(2 * np.pi * 50 * k * time + rng.uniform(0, 6.28)) / k for k in (1, 2, 3, 5, 7)), np.zeros(count)
        )
        sound = sound + 0.1 * _coloured(rng.normal(size=count), 0.5)
    elif name == "clicks":
        sound = 0.02 * rng.normal(size=count)
        for start in rng.integers(0, count - 400, size=3 * settings.noise_s):
            sound[start : start + 400] += rng.normal(size=400) * np.exp(-np.arange(400) / 60)
    else:
        sound = np.zeros(count)
        for _ in range(12 * settings.noise_s):
            voice, start = voices[int(rng.integers(len(voices)))], int(rng.integers(0, count - CLIP_SAMPLES))
            sound[start : start + CLIP_SAMPLES] += voice[::-1] / 32768  # backwards: voices, but no words
    sound = sound / np.abs(sound).max() * {"clicks": 0.5, "babble": 0.6}.get(name, 0.9)
    pcm: Int16 = np.rint(sound * 32767).astype(np.int16)
    return pcm


def _coloured(white: Float64, exponent: float) -> Float64:
    spectrum = np.fft.rfft(white)
    frequency = np.arange(len(spectrum), dtype=np.float64)
    spectrum[1:] /= frequency[1:] ** exponent
    spectrum[frequency * SAMPLE_RATE_HZ / len(white) < 20] = 0
    return np.fft.irfft(spectrum, len(white))
