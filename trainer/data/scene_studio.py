"""The sound of a scene, and what each window of it holds. What scenes are for: trainer/data/scenes.py."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from converter.arrays import Float32, Int8, Int16, Int64
from converter.spec import FeatureSpec
from trainer.data.features import stream_features
from trainer.data.utterances import active_rms

IGNORED, NO_WORD = -1, -2  # targets of a window beside the labels: too much or too little of a word, and no chosen word
TOLERANCE_S = 0.06  # of a word that a window may lack at either end and still holds it
RESET_AFTER = 8  # scenes


@dataclass(frozen=True)
class SceneSettings:
    """What scenes are made of. Shares are of all scenes unless said; levels are of active speech, dB of full scale."""

    count: int = 60_000
    seconds: float = 3.0
    word_share: float = 0.5
    other_share: float = 0.17  # another word, or (torn_share of these) a piece of a chosen one
    speech_share: float = 0.28  # the rest is noise alone
    torn_share: float = 0.2
    level_db: tuple[float, float] = (-50.0, -12.0)
    speech_beside: float = 0.2  # of the scenes with a word: other speech before or after it
    word_beside: float = 0.18
    noise: float = 0.4  # of the scenes with speech: at noise_snr_db, or babble at babble_snr_db; else a faint hiss
    noise_snr_db: tuple[float, float] = (0.0, 30.0)
    babble: float = 0.25
    babble_snr_db: tuple[float, float] = (3.0, 30.0)
    gate: float = 0.4  # of the words: digital silence around them
    speed: float = 0.12
    equalizer_db: float = 9.0
    narrow: float = 0.15
    reverb: float = 0.3
    seed: int = 0
    spoken: int = 0  # times that synthetic voices say each chosen word; 0: a tenth as often as people
    recorded_share: float = 0.0  # of the scenes with a chosen word: it is a recording; 0: as recordings are many
    isolated: int = 0  # isolated words of the negatives that are other words too


@dataclass(frozen=True)
class HardNegatives:
    """Before each of the last `rounds` epochs the network so far hears the scenes, all without a chosen word; the
    `kept` ones in which its sums come highest join the epoch's."""

    scenes: SceneSettings = field(
        default_factory=lambda: SceneSettings(seed=7, word_share=0.0, other_share=0.25, speech_share=0.7)
    )
    kept: int = 12_000
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.scenes.word_share or self.kept < 0 or self.rounds < 0:
            raise ValueError(
                f"hard negatives: scenes hold no chosen word, kept and rounds are not negative, got a word share of "
                f"{self.scenes.word_share:g}, {self.kept} and {self.rounds}"
            )


@dataclass(frozen=True)
class Material:
    """Recordings that scenes are cut from: words int16 [n, samples] with labels and spans (first and past last sample
    of the word, int64 [n, 2]), other words, streams of speech each of a group 0.., and noises."""

    words: Int16
    labels: Int64
    spans: Int64
    others: Int16
    other_spans: Int64
    speech: tuple[Int16, ...]
    groups: tuple[int, ...]
    noises: tuple[Int16, ...]


def window_targets(frames: int, spec: FeatureSpec, label: int, span: tuple[int, int] | None) -> Int8:
    """int8 [windows] of a scene of so many frames that holds `label` at these samples as Scenes has them.

    A window that holds the whole word has its label; one with half of it or more is IGNORED; any other has NO_WORD.
    A label of 0 without span is silence throughout.
    """
    first = np.arange(0, frames - spec.frames + 1, 2) * spec.step_samples
    past = first + (spec.frames - 1) * spec.step_samples + spec.window_samples
    found = np.full(len(first), 0 if span is None and label == 0 else NO_WORD, np.int8)
    if span is not None and label > 0:
        inside = np.minimum(past, span[1]) - np.maximum(first, span[0])
        tolerance = TOLERANCE_S * spec.sample_rate_hz
        if label > 1:
            found[inside > 0.5 * (span[1] - span[0])] = IGNORED
        found[(first <= span[0] + tolerance) & (past >= span[1] - tolerance)] = label
    return found


class Studio:
    """Makes the scenes of one chunk, drawing from `rng`."""

    def __init__(
        self, material: Material, spec: FeatureSpec, settings: SceneSettings, rng: np.random.Generator
    ) -> None:
        self.material, self.spec, self.settings, self.rng = material, spec, settings, rng
        self.rate_hz = spec.sample_rate_hz
        self.frames = int(settings.seconds * 1000) // spec.step_ms
        self.samples = self.frames * spec.step_samples
        length = np.array([len(stream) for stream in material.speech], np.float64)
        groups = np.array(material.groups)
        self.by_group = [np.where(groups == g, length, 0) for g in range(max(material.groups) + 1)]
        self.group_share = np.array([shares.sum() for shares in self.by_group]) / length.sum()
        self.group, self.group_heard = 0, False

    def chunk(self, count: int) -> tuple[Int8, Int8, Int8]:
        """(features, targets, groups) of so many scenes, as Scenes has them."""
        pcm, targets, groups = [], [], np.full(count, -1, np.int8)
        for index in range(count):
            self.group, self.group_heard = int(self.rng.choice(len(self.by_group), p=self.group_share)), False
            sound, label, span = self.scene()
            pcm.append(np.clip(np.rint(sound), -32768, 32767).astype(np.int16))
            # the last window of a scene begins in the next one
            targets.append(window_targets(self.frames - 1, self.spec, label, span))
            groups[index] = self.group if self.group_heard else -1
        features = np.empty((count, self.frames - 1, self.spec.channels), np.int8)
        for start in range(0, count, RESET_AFTER):
            part = pcm[start : start + RESET_AFTER]
            frames = stream_features(np.concatenate([*part, np.zeros(self.spec.window_samples, np.int16)]), self.spec)
            for index in range(len(part)):
                features[start + index] = frames[index * self.frames : (index + 1) * self.frames - 1]
        return features, np.stack(targets), groups

    def scene(self) -> tuple[Float32, int, tuple[int, int] | None]:
        """(sound float32 [samples], label, where it is spoken); label NO_WORD: none that is to be learned."""
        s, rng = self.settings, self.rng
        level_db = rng.uniform(*s.level_db)
        kind = rng.random()
        if kind < s.word_share + s.other_share:
            sound, label, span = self.spoken(kind < s.word_share, level_db)
        elif kind < s.word_share + s.other_share + s.speech_share:
            sound, label, span = self.speech(self.samples, level_db), NO_WORD, None
            if (
                rng.random() < 0.6
            ):  # recordings of speech are cleaner than those of words, which must not tell them apart
                sound += self.noise(level_db - rng.uniform(25, 60))
        else:
            return self.noise(rng.uniform(-75, -15)), 0, None
        bed = rng.random()
        if bed < s.noise:
            sound += self.noise(level_db - rng.uniform(*s.noise_snr_db))
        elif bed < s.noise + s.babble:
            sound += self.babble(level_db - rng.uniform(*s.babble_snr_db))
        else:
            sound += self.noise(rng.uniform(-85, -55))
        return sound, label, span

    def spoken(self, chosen: bool, level_db: float) -> tuple[Float32, int, tuple[int, int] | None]:
        """A word with its end anywhere after the first second, perhaps with speech or another word beside it."""
        s, m, rng = self.settings, self.material, self.rng
        if chosen:
            index = int(rng.integers(len(m.words)))
            clip, (begin, end), label = m.words[index].astype(np.float32), m.spans[index], int(m.labels[index])
        elif rng.random() < s.torn_share:
            clip, label = self.torn(), NO_WORD
            begin, end = 0, len(clip)
        else:
            index = int(rng.integers(len(m.others)))
            clip, (begin, end), label = m.others[index].astype(np.float32), m.other_spans[index], 1
        if rng.random() < s.gate:
            clip = self.gated(clip, int(begin), int(end))
        clip, factor = self.recorded(clip)
        begin, end = int(begin * factor), int(end * factor)
        clip = self.scaled(clip, level_db, active_rms(clip[begin:end], self.rate_hz))
        fade = min(self.rate_hz // 20, len(clip) // 8)
        clip[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        clip[len(clip) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        sound = np.zeros(self.samples, np.float32)
        at = int(rng.uniform(1.0, s.seconds) * self.rate_hz) - end
        _put(sound, clip, at)
        begin, end = at + begin, at + end
        beside = rng.random()
        if beside < s.speech_beside:
            for before in (True, False):
                if rng.random() < 0.65:
                    gap = int(rng.uniform(0.1, 0.5) * self.rate_hz)
                    talk = self.speech(self.samples, level_db + rng.uniform(-8, 4))
                    _put(sound, talk, begin - gap - len(talk) if before else end + gap)
        elif beside < s.speech_beside + s.word_beside:
            index = int(rng.integers(len(m.others)))
            first, past = m.other_spans[index]
            word = m.others[index, first:past].astype(np.float32)
            word = self.scaled(word, level_db + rng.uniform(-6, 4), active_rms(word, self.rate_hz))
            gap = int(rng.uniform(0.03, 0.4) * self.rate_hz)
            _put(sound, word, begin - gap - len(word) if rng.random() < 0.5 else end + gap)
        return sound, label, (begin, end)

    def torn(self) -> Float32:
        """The first or last part of a chosen word, alone or continued by a part of another word."""
        m, rng = self.material, self.rng
        index = int(rng.integers(len(m.words)))
        clip, (begin, end) = m.words[index].astype(np.float32), m.spans[index]
        cut, first = int(begin + (end - begin) * rng.uniform(0.35, 0.6)), rng.random() < 0.5
        part = clip[:cut] if first else clip[cut:]
        ramp = np.minimum(1, np.arange(len(part), dtype=np.float32) / (self.rate_hz // 100))
        part = part * (ramp[::-1] if first else ramp)
        if rng.random() < 0.6:
            index = int(rng.integers(len(m.others)))
            begin, end = m.other_spans[index]
            other, cut = m.others[index].astype(np.float32), int(begin + (end - begin) * rng.uniform(0.3, 0.6))
            other = other[cut:] if first else other[:cut]
            other = other * np.float32(active_rms(part, self.rate_hz) / (active_rms(other, self.rate_hz) + 1))
            part = np.concatenate([part, other] if first else [other, part])
        found: Float32 = part[: int(1.25 * self.rate_hz)]
        return found

    def gated(self, clip: Float32, begin: int, end: int) -> Float32:
        """The clip with digital silence around the word, as phones and browsers make it."""
        opened = np.zeros(len(clip), np.float32)
        opened[max(0, begin - int(self.rng.uniform(160, 1600))) : end + int(self.rng.uniform(320, 1600))] = 1
        width = int(self.rng.uniform(80, 480))
        ramp = np.convolve(opened, np.full(width, 1 / width), "same").astype(np.float32)
        return clip * ramp

    def speech(self, samples: int, level_db: float) -> Float32:
        """An excerpt of the scene's speaker group."""
        talk, _ = self.recorded(self.excerpt(int(1.25 * samples)))
        talk = talk[:samples]
        return self.scaled(talk, level_db, active_rms(talk, self.rate_hz))

    def excerpt(self, samples: int) -> Float32:
        """So many samples of a stream of the scene's speaker group, from anywhere in it."""
        self.group_heard = True
        share = self.by_group[self.group]
        stream = self.material.speech[int(self.rng.choice(len(share), p=share / share.sum()))]
        start = int(self.rng.integers(0, max(1, len(stream) - samples)))
        found = stream[start : start + samples].astype(np.float32)
        return np.pad(found, (0, samples - len(found)))

    def babble(self, level_db: float) -> Float32:
        """Two to six excerpts at once."""
        found = np.zeros(self.samples, np.float32)
        for _ in range(int(self.rng.integers(2, 7))):
            talk = self.excerpt(self.samples)
            found += talk / np.float32(active_rms(talk, self.rate_hz) + 1)
        return self.scaled(found, level_db, active_rms(found, self.rate_hz))

    def noise(self, level_db: float) -> Float32:
        """A cut of a recorded noise, or of noise with a random slope of its spectrum."""
        rng = self.rng
        if rng.random() < 0.3:
            bins = self.samples // 2 + 1
            shape = np.maximum(np.arange(bins), self.samples * 50 / self.rate_hz) ** -rng.uniform(0, 1.2)
            values = rng.standard_normal((2, bins), np.float32)
            found = _inverse(((values[0] + 1j * values[1]) * shape).astype(np.complex64), self.samples)
        else:
            stream = self.material.noises[int(rng.integers(len(self.material.noises)))]
            start = int(rng.integers(0, max(1, len(stream) - self.samples)))
            found = np.resize(stream[start : start + self.samples], self.samples).astype(np.float32)
        return self.scaled(found, level_db, float(np.sqrt(np.square(found, dtype=np.float64).mean())))

    def scaled(self, sound: Float32, level_db: float, rms: float) -> Float32:
        """The sound, of this root mean square, at a level in dB of full scale."""
        return sound * np.float32(32768 * 10 ** (level_db / 20) / (rms + 1))

    def recorded(self, sound: Float32) -> tuple[Float32, float]:
        """The sound in another room and by another microphone, and how much longer it has become: speed (and pitch with
        it), equalizer, sometimes a narrow band, sometimes reverberation."""
        s, rng = self.settings, self.rng
        grain = self.rate_hz * 60 // 1000  # lengths that a Fourier transform likes
        samples = max(grain, len(sound) // grain * grain)
        spectrum = _forward(np.pad(sound, (0, max(0, samples - len(sound))))[:samples])
        places = np.linspace(0, 1, 7)
        gain_db = np.interp(np.linspace(0, 1, len(spectrum)), places**2, rng.uniform(-1, 1, 7) * s.equalizer_db)
        spectrum *= (10 ** ((gain_db - gain_db.mean()) / 20)).astype(np.float32)
        if rng.random() < s.narrow:
            spectrum[int(len(spectrum) * rng.uniform(0.4, 0.9)) :] *= np.float32(0.02)
        longer = max(grain, int(samples * rng.uniform(1 - s.speed, 1 + s.speed)) // grain * grain)
        resized = np.zeros(longer // 2 + 1, np.complex64)
        kept = min(len(spectrum), len(resized))
        resized[:kept] = spectrum[:kept]
        found = _inverse(resized, longer) * np.float32(longer / samples)
        if rng.random() < s.reverb:
            found = self.in_a_room(found)
        return found, longer / samples

    def in_a_room(self, sound: Float32) -> Float32:
        """Convolved with noise that decays by 60 dB in 0.1 to 0.6 s, 5 to 50 % of the direct sound."""
        rng = self.rng
        decay = int(rng.uniform(0.1, 0.6) * self.rate_hz)
        tail = rng.standard_normal(decay, np.float32) * np.exp(-6.9 * np.arange(decay) / decay).astype(np.float32)
        tail *= np.float32(rng.uniform(0.05, 0.5) / np.sqrt(np.square(tail).sum()))
        tail[0] += 1
        grain = self.rate_hz * 3 // 10
        padded = -(-(len(sound) + decay) // grain) * grain
        both = _forward(np.pad(sound, (0, padded - len(sound)))) * _forward(np.pad(tail, (0, padded - decay)))
        found: Float32 = _inverse(both, padded)[: len(sound)]
        return found


def _forward(sound: Float32) -> np.ndarray[tuple[int], np.dtype[np.complex64]]:
    found: np.ndarray[tuple[int], np.dtype[np.complex64]] = torch.fft.rfft(torch.from_numpy(sound)).numpy()
    return found


def _inverse(spectrum: np.ndarray[tuple[int], np.dtype[np.complex64]], samples: int) -> Float32:
    found: Float32 = torch.fft.irfft(torch.from_numpy(spectrum), samples).numpy()
    return found


def _put(sound: Float32, piece: Float32, at: int) -> None:
    """Add the piece with its first sample at `at`, as far as it lies within the sound."""
    first, past = max(0, -at), min(len(piece), len(sound) - at)
    if past > first:
        sound[at + first : at + past] += piece[first:past]
