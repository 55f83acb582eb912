"""Takes: which stretches of a recording become one, how they are cut, levelled, named, and what is said of the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_cli import audio_command
from spoken import recording, spoken_word

from converter.arrays import Int16
from converter.spec import FeatureSpec, SpecError
from trainer.data.dataset import which_set
from trainer.data.recordings import read_pcm, to_int16, write_wav
from trainer.data.synthetic_speech import ENGLISH, say
from trainer.data.takes import Imported, Take, find_takes, import_takes, takes_of, usable_speaker, word_folder
from trainer.data.utterances import active_rms, utterances, voiced_seconds
from trainer.errors import TrainerError

ROOT = Path(__file__).resolve().parents[2]
SPEC, RATE = FeatureSpec(), 16000
PLACES = [1.2 + 3.2 * index for index in range(12)]


def kept(pcm: Int16) -> list[Take]:
    return [take for take in find_takes(pcm, SPEC) if not take.fault]


def faults(pcm: Int16) -> list[str]:
    return [take.fault for take in find_takes(pcm, SPEC) if take.fault]


def level_db(pcm: Int16) -> float:
    return float(20 * np.log10(active_rms(pcm, RATE) / 32768))


def holds(take: Int16, pcm: Int16, at_s: float, seconds: float) -> bool:
    """True where the take holds the sound from there, so long, at any level."""
    part = pcm[int(at_s * RATE) : int((at_s + seconds) * RATE)].astype(np.float64)
    part -= part.mean()
    sliding = np.correlate(take.astype(np.float64), part, "valid")
    where = int(sliding.argmax())
    heard = take[where : where + len(part)] - take[where : where + len(part)].mean()
    return float(sliding.max() / np.linalg.norm(heard) / np.linalg.norm(part)) > 0.999


@pytest.mark.parametrize("noise", [0.0, 0.0003, 0.003, 0.01])
def test_every_word_of_a_long_recording_is_a_take_of_a_second(noise: float) -> None:
    pcm = recording(40, PLACES, noise=noise)
    takes = find_takes(pcm, SPEC)
    assert [take.fault for take in takes] == [""] * 12
    for take, at_s in zip(takes, PLACES, strict=True):
        assert len(take.pcm) == SPEC.clip_samples and holds(take.pcm, pcm, at_s, 0.6)
        assert abs(take.at_s - at_s) < 0.06 and abs(take.seconds - 0.6) < 0.1
        assert abs(level_db(take.pcm[3200:12800]) + 20) < 0.5
        loud = np.flatnonzero(np.abs(take.pcm) > 0.25 * take.pcm.max())
        assert loud[0] > 0.1 * RATE and loud[-1] < 0.9 * RATE  # room at both ends
        assert noise == 0 or np.count_nonzero(take.pcm[:100]) > 50  # of the recording, not zeros


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_words_of_synthetic_voices_are_found_whole() -> None:
    rng = np.random.default_rng(1)
    pcm = rng.normal(size=40 * RATE) * 30
    spans = []
    for at_s in PLACES:
        word = say("espeak-ng", "computer", ENGLISH, rng).astype(np.float64) * 0.3
        heard = np.flatnonzero(np.abs(word) > 0.03 * np.abs(word).max())
        spans.append((int(at_s * RATE) + heard[0], int(at_s * RATE) + heard[-1]))
        pcm[int(at_s * RATE) :][: len(word)] += word
    takes = find_takes(to_int16(pcm / 32768), SPEC)
    assert [take.fault for take in takes] == [""] * 12
    for take, (first, past) in zip(takes, spans, strict=True):
        assert holds(take.pcm, to_int16(pcm / 32768), first / RATE, (past - first) / RATE)


def test_pauses_within_a_word_do_not_end_it_and_longer_ones_do() -> None:
    rng = np.random.default_rng(2)
    for pause_s, count in ((0.15, 1), (0.3, 2)):
        pcm = rng.normal(size=4 * RATE) * 20
        for first in (RATE, RATE + int((0.25 + pause_s) * RATE)):
            pcm[first : first + RATE // 4] += 6000 * spoken_word(0.25)
        assert len(utterances(to_int16(pcm / 32768), RATE)) == count


@pytest.mark.parametrize("colour", [0, 1])
def test_noise_alone_gives_no_take(colour: int) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=20 * RATE)
    shape = np.maximum(np.fft.rfftfreq(len(noise), 1 / RATE), 20) ** (-colour / 2)
    noise = np.fft.irfft(np.fft.rfft(noise) * shape)
    assert find_takes(to_int16(0.1 * noise / np.abs(noise).max()), SPEC) == []
    for nothing in (np.zeros(0, np.int16), np.zeros(50, np.int16), np.zeros(RATE, np.int16)):
        assert find_takes(nothing, SPEC) == []


def test_clicks_bursts_of_noise_and_long_speech_are_refused_with_the_reason() -> None:
    rng = np.random.default_rng(4)
    sound = rng.normal(size=12 * RATE) * 0.001
    sound[2 * RATE : 2 * RATE + 300] += 0.5 * rng.normal(size=300)
    sound[4 * RATE : 4 * RATE + 8000] += 0.1 * rng.normal(size=8000)
    sound[6 * RATE : 6 * RATE + 20000] += 0.3 * spoken_word(1.25)
    sound[9 * RATE : 9 * RATE + 9600] += 0.3 * spoken_word()
    click, burst, long, word = find_takes(to_int16(sound), SPEC)
    assert click.fault.startswith("a click of ") and abs(click.at_s - 2) < 0.05
    assert "without a voice" in burst.fault and "lasts 1.2" in long.fault and "say the word alone" in long.fault
    assert not word.fault and len(click.pcm) == len(burst.pcm) == len(long.pcm) == 0


def test_a_voice_repeats_itself_and_noise_does_not() -> None:
    assert voiced_seconds(spoken_word(0.6), RATE) > 0.3
    assert voiced_seconds(np.random.default_rng(5).normal(size=RATE), RATE) == 0
    assert voiced_seconds(np.zeros(RATE), RATE) == 0 and voiced_seconds(np.ones(30), RATE) == 0


def test_levels_are_set_within_their_bounds() -> None:
    assert "too quiet" in faults(recording(3, [1], level=0.0008, noise=0.00001))[0]
    (quiet,) = kept(recording(3, [1], level=0.01, noise=0.0001))
    assert -30 < level_db(quiet.pcm) < -19  # 30 dB more, no further
    before = level_db(recording(3, [1], level=0.01, noise=0.0001))
    assert level_db(quiet.pcm) == pytest.approx(min(before + 30, -20), abs=0.5)
    spiky = recording(3, [1], level=0.02, noise=0.0)
    spiky[RATE + 5000 : RATE + 5003] = 15000  # would clip at 10 dB more
    assert np.abs(kept(spiky)[0].pcm.astype(np.int32)).max() <= 32767
    assert kept(spiky)[0].pcm.max() > 32000


def test_clipped_words_are_refused_and_full_ones_kept() -> None:
    assert not faults(recording(3, [1], level=0.97))
    (fault,) = faults(recording(3, [1], level=2.5))
    assert fault.startswith("clipped; ")


def test_an_offset_is_no_sound() -> None:
    plain = recording(5, [1, 3])
    shifted = (plain.astype(np.int32) + 9000).astype(np.int16)
    for one, other in zip(kept(plain), kept(shifted), strict=True):
        assert np.abs(one.pcm.astype(np.int32) - other.pcm).max() <= 2


def test_a_take_has_zeros_only_where_the_recording_has_no_sound() -> None:
    early, late = recording(3, [0.02]), recording(3, [2.38])
    for pcm in (early, late):
        (take,) = kept(pcm)
        assert np.count_nonzero(take.pcm) > 0.98 * RATE and holds(take.pcm, pcm, 0.02 if pcm is early else 2.38, 0.6)
    (short,) = kept(recording(0.7, [0.05]))
    assert (
        not short.pcm[:1000].any()
        and not short.pcm[-1000:].any()
        and holds(short.pcm, recording(0.7, [0.05]), 0.05, 0.6)
    )


def test_another_word_never_reaches_into_a_take() -> None:
    near = recording(6, [1, 1.9])  # 0.3 s between them
    first, second = kept(near)
    assert holds(first.pcm, near, 1, 0.6) and holds(second.pcm, near, 1.9, 0.6)
    for take in (first, second):
        assert len(utterances(take.pcm, RATE)) == 1
    three = find_takes(recording(6, [1, 1.85, 2.7], word_s=0.6), SPEC)
    assert [bool(take.fault) for take in three] == [False, False, False] or "too close" in three[1].fault
    crowded = find_takes(recording(6, [1, 1.65, 2.3], word_s=0.4), SPEC)
    assert [take.fault.split(";")[0] for take in crowded] == [
        "", "too close to what was said before and after it", "",
    ]  # fmt: skip


def paths(made: list[Imported]) -> list[str]:
    return [path.name for one in made for path, _ in one.written]


def test_takes_are_numbered_on_and_a_recording_adds_nothing_twice(tmp_path: Path) -> None:
    out = tmp_path / "data"
    for name, places in (("a/1.wav", [1, 3]), ("b/1.wav", [0.9, 2.9, 4.9])):
        write_wav(tmp_path / name, recording(7, places))
    one = list(import_takes([tmp_path / "a"], out, "computer"))
    assert paths(one) == ["me_nohash_0.wav", "me_nohash_1.wav"]
    (out / "computer" / "me_nohash_7.flac").write_bytes(b"another's")
    again = list(import_takes([tmp_path / "a", tmp_path / "a" / "1.wav"], out, "computer", "anna"))
    assert paths(again) == [] and [one.there for one in again] == [2] and not again[0].fault
    both = list(import_takes([tmp_path / "a/1.wav", tmp_path / "b/1.wav"], out, "computer", "me"))
    assert paths(both) == ["me_nohash_8.wav", "me_nohash_9.wav", "me_nohash_10.wav"]
    new = list(import_takes([tmp_path / "a", tmp_path / "b"], tmp_path / "new", "computer"))
    assert paths(new) == [*(f"a_nohash_{n}.wav" for n in range(2)), *(f"b_nohash_{n}.wav" for n in range(3))]
    for file in takes_of(tmp_path / "new" / "computer"):
        assert len(read_pcm(file, SPEC)) == RATE
    assert len({which_set(f"computer/{name}") for name in paths(new)[:2]}) == 1
    assert [file.name for file in takes_of(out / "computer", "me")][-2:] == ["me_nohash_9.wav", "me_nohash_10.wav"]


@pytest.mark.parametrize(
    "name", ["", " a", ".a", "_a", "a/b", "a\\b", "a:b", "a\nb", "x" * 65, "a_nohash_1", "caf\udce9"]
)
def test_a_speaker_that_no_file_name_can_begin_with_is_refused(tmp_path: Path, name: str) -> None:
    write_wav(tmp_path / "a.wav", recording(3, [1]))
    with pytest.raises(TrainerError, match="--speaker: a speaker's name begins a file name"):
        list(import_takes([tmp_path / "a.wav"], tmp_path / "out", "computer", name))
    assert not (tmp_path / "out").exists()
    assert usable_speaker("Ánna Maria-2", "here") == "Ánna Maria-2"


def test_a_word_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    for word in ("", "../up", "a/b", ".hidden", "silence", "unknown"):
        with pytest.raises(SpecError):
            word_folder(tmp_path, word)
    with pytest.raises(SpecError, match="no word silence or unknown, which every model has"):
        word_folder(tmp_path, "silence")
    with pytest.raises(TrainerError, match="a word has no comma, which parts words"):
        word_folder(tmp_path, "yes,no")
    with pytest.raises(TrainerError, match="does not begin with _"):
        word_folder(tmp_path, "_background_noise_")
    assert word_folder(tmp_path, "gro\u0308sse").name == "gr\u00f6sse"


def test_recordings_of_every_kind_give_the_same_takes(tmp_path: Path) -> None:
    """8 kHz, stereo, 24 bit, never finished, and compressed ones where ffmpeg is there."""
    pcm = recording(8, [1, 3, 5.5])
    source, folder, out = tmp_path / "plain.wav", tmp_path / "in", tmp_path / "out"
    write_wav(source, pcm)
    folder.mkdir()
    soundfile.write(folder / "stereo.flac", np.stack([pcm, pcm], axis=1), RATE, subtype="PCM_24")
    soundfile.write(folder / "slow.wav", pcm[::2], RATE // 2, subtype="PCM_16")
    header = bytearray(source.read_bytes())
    for name, length in (("zero", b"\0\0\0\0"), ("pipe", b"\xff\xff\xff\xff"), ("sox", b"\x00\xf0\xff\x7f")):
        header[4:8] = header[40:44] = length
        (folder / f"{name}.wav").write_bytes(header)
    kinds = 5
    if shutil.which("ffmpeg"):
        for name in ("a.mp3", "b.ogg", "c.opus", "d.m4a"):
            rate = ["-ar", "48000" if name == "c.opus" else "44100"]
            command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(source), *rate, "-strict", "-2", folder / name]
            subprocess.run([*map(str, command)], check=True)
        kinds += 4
    code, said, errors = audio_command(folder, "--word", "computer", "--speaker", "anna", "--out", out)
    assert code == 0, errors
    assert len(said.splitlines()) - 1 == 3 * (kinds - 3)  # of the same samples are stereo and the three never finished
    assert errors.count("warning: ") == 1
    assert "slow.wav: sampled at 8000 Hz: nothing above 4000 Hz was recorded, where 9 of 40 channels look" in errors
    for file in takes_of(out / "computer"):
        take = read_pcm(file, SPEC)
        assert len(take) == RATE and abs(level_db(take) + 20) < 1 and len(utterances(take, RATE)) == 1
    code, said, errors = audio_command(folder, "--word", "computer", "--out", out)
    assert code == 0 and said.splitlines() == [
        f"{out}/computer: {3 * (kinds - 3)} takes; {3 * kinds} were there, 0 sounds skipped"
    ]


def test_the_command_says_what_it_skipped_and_ends_with_1_for_what_gave_nothing(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for place in ("__MACOSX", ".hidden"):
        (folder / place).mkdir(parents=True)
        (folder / place / "x.wav").write_bytes(b"nothing")
    (folder / "._good.wav").write_bytes(b"nothing")
    good = recording(6, [3])
    good[RATE : RATE + 200] = 9000
    write_wav(folder / "good.wav", good)
    write_wav(folder / os.fsdecode(b"caf\xe9.wav"), recording(3, [1.5]))
    write_wav(folder / "noise.wav", recording(9, []))
    (folder / "text.wav").write_text("no sound\n" * 40)
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    code, said, errors = audio_command(folder, "--word", "computer", "--out", out)
    assert code == 1 and len(said.splitlines()) == 3 and "2 takes; 0 were there, 1 sounds skipped" in said
    skipped, *named, last = errors.splitlines()
    assert skipped.startswith(f"skipped: {folder}/good.wav at 0.99 s: ") and "a click of " in skipped
    assert [line.split(": ")[1].rsplit("/", 1)[1] for line in named] == ["gone.wav", "noise.wav", "text.wav"]
    assert "no take of the word in 9.0 s, nothing rises above the background" in named[1]
    assert last == "error: 3 of 5 recordings gave no take; mend or remove them"
    code, said, errors = audio_command(folder / "noise.wav", "--word", "computer", "--out", tmp_path / "none")
    assert code == 1 and not (tmp_path / "none").exists() and len(errors.splitlines()) == 1
    code, said, errors = audio_command(folder, "--speaker", "anna", "--out", out)
    assert code == 1 and "--speaker: names the takes of a word" in errors


def test_takes_are_not_taken_for_recordings(tmp_path: Path) -> None:
    write_wav(tmp_path / "talk.wav", recording(4, [2]))
    for _ in range(2):
        made = list(import_takes([tmp_path], tmp_path / "takes", "computer"))
        assert [one.recording.name for one in made] == ["talk.wav"]
    assert len(takes_of(tmp_path / "takes" / "computer")) == 1
