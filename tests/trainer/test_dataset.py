"""Which clips belong to which class and split, and what bad folders and lists say."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import trainer_corpus

from converter.spec import FeatureSpec, KwsSpec
from trainer.data import dataset as data
from trainer.data.dataset import (
    NOISE_REGION,
    SPLITS,
    clip_names,
    cut_start,
    extra_count,
    load,
    select,
    silence_cuts,
    which_set,
)
from trainer.data.recordings import write_wav
from trainer.errors import TrainerError

SPEC = KwsSpec.of_words(["yes", "stop"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trainer_corpus.make(tmp_path_factory.mktemp("corpus"))


def test_split_of_official_test_clips(speech_commands: Path) -> None:
    """Every clip that lies in Google's own test archive is a test clip, and the manifest's splits agree throughout."""
    rows = [r for r in csv.DictReader((speech_commands / "MANIFEST.csv").open()) if not r["word"].startswith("_")]
    official = [r for r in rows if r["canonical_test_v002"]]
    assert len(official) > 1000
    assert all(which_set(f"{r['word']}/{r['file']}") == "test" for r in official)
    names = {"training": "train", "validation": "validation", "testing": "test"}
    assert [which_set(r["file"]) for r in rows] == [names[r["split_which_set"]] for r in rows]


def test_split_of_known_names() -> None:
    """Names from the official lists; the suffix and the number after _nohash_ do not matter."""
    for name, split in KNOWN.items():
        others = (name.replace(".wav", ".flac"), name.replace("_nohash_0", "_nohash_7"), name.split("/")[1])
        assert [which_set(n) for n in (name, *others)] == [split] * 4, name


KNOWN = {
    "bed/060cd039_nohash_0.wav": "validation",
    "bed/16db1582_nohash_0.wav": "validation",
    "zero/6a27a9bf_nohash_0.wav": "validation",
    "backward/87070229_nohash_2.wav": "test",
    "bed/28497c5b_nohash_0.wav": "test",
    "zero/db24628d_nohash_3.wav": "test",
    "yes/004ae714_nohash_0.wav": "train",
}


def test_counts_of_the_whole_set() -> None:
    """yes/no of Speech Commands v0.02: 3,228 + 3,130 training, 397 + 406 validation, 419 + 405 test clips."""
    known = (3228 + 3130, 397 + 406, 419 + 405)
    assert [k + 2 * extra_count(k, 2) for k in known] == [10556, 1333, 1368]
    assert extra_count(known[2], 2) == 272


def test_selection_follows_the_rule(corpus: Path) -> None:
    chosen = select(corpus, SPEC)
    for split in SPLITS:
        clips = chosen.clips[split]
        known = [c for c in clips if c.label >= 2]
        spoken = [c for c in clips if not c.name.startswith("_")]
        assert all(which_set(c.name) == split for c in spoken)
        assert len(known) == sum(
            which_set(c.name) == split for w in ("yes", "stop") for c in known if c.name.startswith(w)
        )
        assert sum(c.label == 0 for c in clips) == extra_count(len(known), 2)
        unknown = [c.name for c in (chosen.pool if split == "train" else clips) if split == "train" or c.label == 1]
        assert unknown == data.in_sha256_order(unknown) and unknown
        if split != "train":
            assert len(unknown) == extra_count(len(known), 2)
    assert chosen.counts()["train"] == len(chosen.clips["train"]) + min(len(chosen.pool), chosen.share("train"))
    assert select(corpus, SPEC) == chosen


def test_splits_share_no_speaker_and_no_noise(corpus: Path) -> None:
    chosen = select(corpus, SPEC)
    speakers = [
        {
            c.name.split("/")[1].split("_")[0]
            for c in (*chosen.clips[s], *(chosen.pool if s == "train" else ()))
            if not c.name.startswith("_")
        }
        for s in SPLITS
    ]
    assert not (speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2])
    length, clip = 12 * 16000, 16000
    for split in SPLITS:
        low, high = (int(length * share) for share in NOISE_REGION[split])
        starts = [cut_start(c.start, length, clip, split) for c in silence_cuts(chosen.noises, split, 200)]
        assert all(low <= s and s + clip <= high for s in starts), split
        assert len(set(starts)) > 100


def test_recorded_silence_is_used_in_the_test_split_only(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "with_silence"
    folder.mkdir()
    for item in corpus.iterdir():
        (folder / item.name).symlink_to(item)
    for number in range(50):
        write_wav(folder / "_silence_" / f"{number}.wav", np.full(16000, number, np.int16))
    chosen = select(folder, SPEC)
    silent = {s: [c for c in chosen.clips[s] if c.label == 0] for s in SPLITS}
    assert all(c.name.startswith("_silence_/") for c in silent["test"])
    assert not any(c.name.startswith("_silence_/") for s in ("train", "validation") for c in silent[s])
    assert load(silent["test"][:1], "test", SPEC.features)[0, 0] == int(silent["test"][0].path.stem)


def test_clips_file_selects_the_same_clips_elsewhere(corpus: Path, tmp_path: Path) -> None:
    chosen = select(corpus, SPEC)
    file = tmp_path / "clips.txt.gz"
    file.write_bytes(clip_names(chosen))
    assert clip_names(chosen) == file.read_bytes()
    trainer_corpus.make(tmp_path / "bigger", speakers=44)
    again = select(tmp_path / "bigger", SPEC, file)
    assert [[c.name for c in again.clips[s]] for s in SPLITS] == [[c.name for c in chosen.clips[s]] for s in SPLITS]
    assert [c.name for c in again.pool] == [c.name for c in chosen.pool]
    assert len(select(tmp_path / "bigger", SPEC).pool) > len(chosen.pool)


def test_short_clips_are_filled_and_long_ones_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "short.wav", np.full(400, 7, np.int16))
    write_wav(tmp_path / "long.wav", np.zeros(16001, np.int16))
    clip = data.Clip("a/short", tmp_path / "short.wav", 2)
    pcm = load([clip], "train", FeatureSpec())
    assert pcm.shape == (1, 16000) and pcm[0, 399] == 7 and not pcm[0, 400:].any()
    with pytest.raises(TrainerError, match=r"long.wav: a clip is at most 1000 ms long"):
        load([data.Clip("a/long", tmp_path / "long.wav", 2)], "train", FeatureSpec())


def one_sentence(error: pytest.ExceptionInfo[TrainerError]) -> str:
    text = str(error.value)
    assert "\n" not in text and 20 < len(text) < 300
    return text


def test_bad_folders_say_so(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainerError) as error:
        select(tmp_path / "nowhere", SPEC)
    assert "no such data folder" in one_sentence(error)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainerError) as error:
        select(tmp_path / "empty", SPEC)
    assert "no word folders" in one_sentence(error)
    with pytest.raises(TrainerError) as error:
        select(corpus, KwsSpec.of_words(["yes", "banana"]))
    assert "banana" in one_sentence(error)
    (tmp_path / "hollow" / "yes").mkdir(parents=True)
    (tmp_path / "hollow" / "stop").mkdir()
    with pytest.raises(TrainerError) as error:
        select(tmp_path / "hollow", SPEC)
    assert "'yes'" in one_sentence(error)
    trainer_corpus.make(tmp_path / "quiet", speakers=2)
    for file in (tmp_path / "quiet" / "_background_noise_").iterdir():
        file.unlink()
    with pytest.raises(TrainerError) as error:
        select(tmp_path / "quiet", SPEC)
    assert "noise" in one_sentence(error)


def test_bad_clips_files_say_so(corpus: Path, tmp_path: Path) -> None:
    unreadable = "not a readable list"
    for name, content, expected in (
        ("a.txt", b"yes/ffffffff_nohash_0\n", "1 of its 1 clips"),
        ("b.txt", b"\xff\xfe\xfd", unreadable),
        ("c.txt.gz", b"\x1f\x8b nonsense", unreadable),
        ("d.txt.gz", gzip.compress(b"yes/")[:-9], unreadable),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TrainerError) as error:
            select(corpus, SPEC, tmp_path / name)
        assert expected in one_sentence(error)
    with pytest.raises(TrainerError) as error:
        select(corpus, SPEC, tmp_path / "none.txt")
    assert "not a readable list" in one_sentence(error)


def test_noise_too_short_for_three_splits(tmp_path: Path) -> None:
    write_wav(tmp_path / "n.wav", np.zeros(16000, np.int16))
    with pytest.raises(TrainerError) as error:
        data.load_noise(tmp_path / "n.wav", FeatureSpec())
    assert "at least 11 s" in one_sentence(error)


def linked(corpus: Path, folder: Path) -> Path:
    """The corpus with word folders of its own, so that a test can add to them."""
    for word in corpus.iterdir():
        (folder / word.name).mkdir(parents=True)
        for file in word.iterdir():
            (folder / word.name / file.name).symlink_to(file)
    return folder


def test_clips_that_cannot_be_used_are_all_named_before_training(corpus: Path, tmp_path: Path) -> None:
    folder = linked(corpus, tmp_path / "data")
    speaker = next(c.path.stem.split("_")[0] for c in select(folder, SPEC).clips["test"] if c.label == 2)
    yes = folder / "yes"
    write_wav(yes / f"{speaker}_nohash_1.wav", np.zeros(19200, np.int16))
    write_wav(yes / f"{speaker}_nohash_2.wav", np.zeros(8000, np.int16), 8000)
    (yes / f"{speaker}_nohash_3.wav").symlink_to(tmp_path / "nowhere.wav")
    (yes / f"{speaker}_nohash_4.flac").write_bytes(b"no sound")
    write_wav(yes / f"{speaker}_nohash_5.wav", np.zeros(0, np.int16))
    write_wav(yes / f"{speaker}_nohash_6.wav", np.zeros(16000, np.int16))  # good
    write_wav(yes / os.fsdecode(b"caf\xe9.wav"), np.zeros(16000, np.int16))
    write_wav(folder / "_background_noise_" / "short.wav", np.zeros(16000, np.int16))
    with pytest.raises(TrainerError) as error:
        select(folder, SPEC)
    text = str(error.value)
    assert "7 recordings cannot be used" in text and "_6.wav" not in text
    for part in (
        "_1.wav (1200 ms, a clip is at most 1000 ms)",
        "_2.wav (must be 16000 Hz, mono, PCM_16, got 8000 Hz, mono, PCM_16)",
        "_3.wav (must be a recording, got no such file)",
        "_4.flac (must be readable as WAV or FLAC",
        "_5.wav (must hold a recording, got no samples)",
        "(its name is not UTF-8)",
        "short.wav (1000 ms, noise lasts at least 10000 ms)",
    ):
        assert part in text, part


def test_hidden_files_are_no_clips_and_other_sound_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = linked(corpus, tmp_path / "data")
    (folder / "__MACOSX" / "yes").mkdir(parents=True)
    for name in ("__MACOSX/yes/._a.wav", "yes/._b.wav", ".DS_Store", "yes/notes.txt"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    assert clip_names(select(folder, SPEC)) == clip_names(select(corpus, SPEC))
    assert capsys.readouterr().err == ""
    for name in ("yes/c.mp3", "yes/d.M4A", "other/e.ogg"):
        (folder / name).write_bytes(b"x")
    select(folder, SPEC)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(", not ")[1].split("; ")[0] for line in said] == ["e.ogg", "c.mp3, d.M4A"]
    assert all(line.startswith(f"warning: {folder}/") for line in said)


@pytest.mark.parametrize("name", ["silence", "Silence", "_silence", "background_noise", "_unknown_", "_yes_", "__"])
def test_a_folder_that_only_looks_like_a_special_one_is_refused(corpus: Path, tmp_path: Path, name: str) -> None:
    folder = linked(corpus, tmp_path / "data")
    write_wav(folder / name / "a_nohash_0.wav", np.zeros(16000, np.int16))
    with pytest.raises(TrainerError) as error:
        select(folder, SPEC)
    assert str(folder / name) in one_sentence(error) and "rename it to" in one_sentence(error)


def test_a_words_folder_may_have_accents_behind_their_letters(corpus: Path, tmp_path: Path) -> None:
    """As some file systems write them; both spellings side by side are refused."""
    folder = linked(corpus, tmp_path / "data")
    (folder / "yes").rename(folder / "gro\u0308\u00dfe")
    chosen = select(folder, KwsSpec.of_words(["gr\u00f6\u00dfe", "stop"]))
    names = {clip.name.split("/")[0] for clip in chosen.clips["train"] if clip.label == 2}
    assert names == {"gr\u00f6\u00dfe"}
    (folder / "gr\u00f6\u00dfe").mkdir()
    with pytest.raises(TrainerError, match="spells the word of another folder") as error:
        select(folder, chosen.spec)
    one_sentence(error)


def test_two_clips_of_one_name_are_refused(corpus: Path, tmp_path: Path) -> None:
    folder = linked(corpus, tmp_path / "data")
    name = next((folder / "yes").iterdir()).stem
    (folder / "yes" / f"{name}.flac").write_bytes(b"x")
    with pytest.raises(TrainerError) as error:
        select(folder, SPEC)
    assert f"{name}.wav: has the name of {name}.flac" in one_sentence(error)


def test_few_clips_of_a_word_are_said(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = linked(corpus, tmp_path / "data")
    for number, file in enumerate(sorted((folder / "yes").iterdir())):
        if number >= 2:
            file.unlink()
    select(folder, SPEC)
    (said,) = capsys.readouterr().err.splitlines()
    assert "2 clips of the word 'yes' (train " in said


def takes(folder: Path, count: int, speakers: int = 1) -> Path:
    """`count` takes of "computer" by so many people, two other words, two noises."""
    for number in range(count):
        pcm = np.full(8000, number + 1, np.int16)
        write_wav(folder / "computer" / f"p{number % speakers}_nohash_{number}.wav", pcm)
    for number in range(40):
        write_wav(folder / "other" / f"s{number}_nohash_0.wav", np.full(8000, number, np.int16))
    write_wav(folder / "_background_noise_" / "room.wav", np.ones(12 * 16000, np.int16))
    return folder


@pytest.mark.parametrize(("count", "held"), [(3, 1), (8, 2), (30, 3), (60, 6)])
def test_takes_of_one_person_are_split_by_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, held: int
) -> None:
    chosen = select(takes(tmp_path / "own", count), KwsSpec.of_words(["computer"]))
    each = {split: [c.name for c in chosen.clips[split] if c.label == 2] for split in SPLITS}
    assert {split: len(names) for split, names in each.items()} == {
        "train": count - 2 * held,
        "validation": held,
        "test": held,
    }
    assert len({name for names in each.values() for name in names}) == count
    assert chosen.by_take and "1 speakers of computer are too few" in capsys.readouterr().err
    assert select(tmp_path / "own", KwsSpec.of_words(["computer"])) == chosen


def test_many_speakers_are_split_by_speaker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = select(takes(tmp_path / "many", 90, speakers=90), KwsSpec.of_words(["computer"]))
    assert not chosen.by_take and "too few" not in capsys.readouterr().err
    assert all(which_set(c.name) == split for split in SPLITS for c in chosen.clips[split] if c.label == 2)


def test_two_takes_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="2 clips of the word 'computer', of which each split needs one"):
        select(takes(tmp_path / "two", 2), KwsSpec.of_words(["computer"]))
