"""Continuous speech of synthetic voices, as negatives, and chosen words by the same voices.

English words in random order, spoken by espeak-ng with the accents of many languages and by flite's voices of English
speakers. The vocabulary holds no word of Speech Commands. A network that hears synthetic voices say other words only
would learn that such a voice is no word, so they say the chosen words too.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from rich.progress import Progress

from converter.arrays import Int16
from converter.target import SAMPLE_RATE_HZ
from trainer.data.synthetic import resample_spectrum
from trainer.errors import TrainerError

ENGINES = ("espeak-ng", "flite")
VOCABULARY = Path(__file__).with_name("vocabulary.txt")
LANGUAGES = (
    *("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "de", "fr", "it", "es", "pt", "pl", "sv", "nl"),
    *("tr", "fi", "hu", "ro", "da", "el"),
)
ENGLISH = LANGUAGES[:5]
VARIANTS = (*(f"m{number}" for number in range(1, 8)), *(f"f{number}" for number in range(1, 6)))
FLITE_VOICES = ("slt", "rms", "awb", "kal16")
MINUTES = 50.0


def say(
    engine: str,
    text: str,
    languages: tuple[str, ...],
    rng: np.random.Generator,
    variants: tuple[str, ...] = VARIANTS,
) -> Int16:
    """int16 PCM at 16 kHz of a text by a random voice of the engine, of espeak-ng's one of these; raises
    TrainerError."""
    if engine == "flite":
        command = ["flite", "-voice", str(rng.choice(FLITE_VOICES))]
        command += ["--setf", f"duration_stretch={rng.uniform(0.75, 1.35):.2f}"]
        command += ["--setf", f"int_f0_target_mean={rng.uniform(80, 240):.0f}", "-t", text, "-o", "/dev/stdout"]
    else:
        voice = f"{rng.choice(languages)}+{rng.choice(variants)}"
        command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(rng.integers(115, 231))]
        command += ["-p", str(rng.integers(20, 81)), "--", text]
    if shutil.which(engine) is None:
        raise TrainerError(f"{engine}: not found; install it (apt-get install {engine})")
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    if done.returncode or len(done.stdout) < 100:
        raise TrainerError(f"{engine}: could not say '{text[:60]}': {done.stderr.decode(errors='replace').strip()}")
    data = bytearray(done.stdout)
    data[40:44], data[4:8] = (len(data) - 44).to_bytes(4, "little"), (len(data) - 8).to_bytes(4, "little")
    sound, rate_hz = soundfile.read(io.BytesIO(bytes(data)), dtype="float64")
    real = resample_spectrum(sound, rate_hz)
    pcm: Int16 = np.clip(np.rint(real * 32767), -32768, 32767).astype(np.int16)
    return pcm


def continuous_speech(engine: str, minutes: float, progress: Progress) -> list[tuple[str, Int16]]:
    """(id, PCM) of utterances with pauses between them, until the minutes are full; the same from the same engine."""
    rng = np.random.default_rng(ENGINES.index(engine))
    words = np.array(VOCABULARY.read_text().split())
    wanted = int(minutes * 60 * SAMPLE_RATE_HZ)
    task = progress.add_task(f"{engine}: speech", total=wanted)
    found: list[tuple[str, Int16]] = []
    done = 0
    while done < wanted:
        chosen = rng.permutation(words)[: int(rng.integers(6, 25))]
        pcm = say(engine, str(rng.choice([" ", ", ", ". "])).join(chosen), LANGUAGES, rng)
        pcm = np.concatenate([pcm, np.zeros(int(rng.integers(SAMPLE_RATE_HZ // 10, SAMPLE_RATE_HZ)), np.int16)])
        found.append((f"utterance-{len(found)}", pcm))
        done += len(pcm)
        progress.update(task, completed=min(done, wanted))
    return found


def spoken_words(words: tuple[str, ...], each: int, samples: int, progress: Progress) -> tuple[Int16, list[int]]:
    """PCM int16 [n, samples] of every word `each` times by both engines in turn, with the number of its word."""
    rng = np.random.default_rng(len(ENGINES))
    task = progress.add_task("synthetic words", total=each * len(words))
    clips = np.zeros((each * len(words), samples), np.int16)
    for index, clip in enumerate(clips):
        pcm = say(ENGINES[index // len(words) % 2], words[index % len(words)], ENGLISH, rng)[: samples * 15 // 16]
        start = int(rng.integers(0, samples - len(pcm) + 1))
        clip[start : start + len(pcm)] = pcm
        progress.advance(task)
    return clips, [index % len(words) for index in range(len(clips))]
