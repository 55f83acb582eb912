"""The virtual board hears a minute of words in noise and a minute of other speech: every output and decision as
`trainer evaluate --negative` scores them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from converter import convert
from converter.arrays import Int16
from converter.run_folder import ModelArtifact
from host.firmware_build import build_firmware
from host.link.client import connect
from host.link.expected import REFERENCE, load_model, require_same
from trainer.data.dataset import NOISE_REGION, in_sha256_order, which_set
from trainer.data.recordings import read_pcm
from trainer.data.utterances import word_spans
from trainer.run.detector_tuning import decide
from trainer.run.false_accepts import open_engine
from trainer.run.listening import LEVEL_DBFS, Words, amplitude, evidence_of, noise_bed, play, summed

RATE = 16000


def clips_of(folder: Path, count: int) -> list[Int16]:
    names = [file.name for file in folder.iterdir() if which_set(file.name) == "test"]
    pcm = [read_pcm(folder / name) for name in in_sha256_order(names)[:count]]
    return [np.pad(clip, (0, RATE - len(clip))) for clip in pcm]


def words_in_noise(data: Path) -> Int16:
    clips = [clip for pair in zip(*(clips_of(data / w, 14) for w in ("yes", "stop")), strict=True) for clip in pair]
    spans = tuple((int(a), int(b)) for a, b in word_spans(np.stack(clips), RATE))
    words = Words(tuple(clips), (2, 3) * 14, spans)
    whole = [read_pcm(file) for file in sorted((data / "_background_noise_").glob("*.*a*"))]
    noises = [pcm[slice(*(int(len(pcm) * share) for share in NOISE_REGION["test"]))] for pcm in whole]
    samples = words.placed(24000, RATE)[1]
    return play(words, noise_bed(noises, samples) * np.float32(amplitude(LEVEL_DBFS - 10)), 24000, RATE, LEVEL_DBFS)


def other_speech(data: Path) -> Int16:
    found = [clips_of(data / word, 9) for word in ("zero", "left", "cat", "down", "go", "seven", "up")]
    return np.concatenate([clip for clips in zip(*found, strict=True) for clip in clips])


@pytest.mark.slow
def test_board_hears_what_is_scored(speech_commands: Path, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc to build the firmware with")
    convert.write_all(convert.render(convert.load(REFERENCE)), tmp_path / "model")
    elf = build_firmware(tmp_path / "model", tmp_path / "build")
    artifact, model = ModelArtifact.load(REFERENCE), load_model(REFERENCE)
    detector = artifact.detector
    engine = open_engine(model.graph, artifact.spec.features, detector, tmp_path / "engine")
    for name, pcm in (("words", words_in_noise(speech_commands)), ("speech", other_speech(speech_commands))):
        outputs = engine.hear(pcm, lambda _: None)
        scored = decide(summed(evidence_of(outputs), detector.average_count), detector.thresholds, detector)
        assert len(pcm) > 60 * RATE and len(scored) >= 3
        soundfile.write(tmp_path / f"{name}.wav", pcm, RATE)
        with connect(str(elf), [tmp_path / f"{name}.wav"]) as board:
            require_same(board.identity, model)
            heard = list(board.listen(len(outputs)))
        assert heard[-1].lost == 0
        assert np.array_equal(np.array([item.scores for item in heard], np.int8), outputs)
        assert [(k, item.word) for k, item in enumerate(heard) if item.word is not None] == scored
