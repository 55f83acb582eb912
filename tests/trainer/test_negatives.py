"""Negatives: made from any sound, resumed, split by speaker, without the clips that hold a word."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.progress import Progress

from trainer.data import negatives, transcripts
from trainer.data.ffmpeg import decode as decode_files
from trainer.data.negatives import (
    SOURCES,
    Clip,
    Stream,
    list_excluded,
    list_negatives,
    load_negatives,
    make_negatives,
    table,
)
from trainer.data.transcripts import excluded
from trainer.errors import TrainerError

WORDS = ("yes", "stop")


@pytest.fixture
def ffmpeg() -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine")


def speaker(folder: Path, name: str, seconds: dict[str, float], rate: int = 16000) -> Path:
    for number, (file, length) in enumerate(seconds.items()):
        samples = np.random.default_rng(number).integers(-9000, 9000, int(rate * length)).astype(np.int16)
        (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name / file, samples, rate)
    return folder / name


def make(out: Path, *folders: Path) -> list[Stream]:
    with Progress(disable=True) as progress:
        return make_negatives(out, (), folders, progress)


def test_own_recordings_become_a_stream(tmp_path: Path, ffmpeg: None) -> None:
    folder = speaker(tmp_path, "anna", {"a.wav": 1.5, "deep/b.flac": 0.25})
    (stream,) = make(tmp_path / "out", folder)
    assert [(c.id, c.samples) for c in stream.clips] == [("a.wav", 24000), ("deep/b.flac", 4000)]
    ((again, pcm),) = load_negatives(tmp_path / "out", WORDS)
    assert again == stream and stream.seconds == 1.75 and stream.split == "train"
    assert np.array_equal(pcm[:24000], soundfile.read(folder / "a.wav", dtype="int16")[0])  # bit for bit


@pytest.mark.parametrize(("rate", "suffix"), [(44100, "wav"), (8000, "ogg"), (48000, "ogg")])
def test_other_rates_and_formats_are_resampled(tmp_path: Path, ffmpeg: None, rate: int, suffix: str) -> None:
    folder = speaker(tmp_path, "bob", {f"a.{suffix}": 1.0}, rate)
    (stream,) = make(tmp_path / "out", folder)
    assert abs(stream.clips[0].samples - 16000) <= 400


def test_interrupted_work_goes_on_and_damage_is_made_anew(
    tmp_path: Path, ffmpeg: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [speaker(tmp_path, name, {"a.wav": 0.5}) for name in ("anna", "bob")]
    out, decode = tmp_path / "out", decode_files
    made: list[Path] = []

    def counted(files: list[Path]) -> list[np.ndarray]:  # type: ignore[type-arg]
        made.extend(files)
        if len(made) == 2:
            raise KeyboardInterrupt
        return decode(files)

    monkeypatch.setattr(negatives, "decode", counted)
    with pytest.raises(KeyboardInterrupt):
        make(out, *folders)
    first = (out / "own-anna.flac").stat().st_mtime_ns
    assert [s.name for s in make(out, *folders)] == ["own-anna", "own-bob"]
    assert (out / "own-anna.flac").stat().st_mtime_ns == first and len(made) == 3
    (out / "own-bob.flac").write_bytes((out / "own-bob.flac").read_bytes()[:-1])
    with pytest.raises(TrainerError, match=r"own-bob\.flac: missing or damaged"):
        load_negatives(out, WORDS)
    make(out, *folders)
    assert len(load_negatives(out, WORDS)) == 2 and len(made) == 4


def test_another_recording_is_taken_in_and_a_name_is_one_speaker(tmp_path: Path, ffmpeg: None) -> None:
    folder = speaker(tmp_path, "anna", {"a.wav": 0.5})
    make(tmp_path / "out", folder)
    speaker(tmp_path, "anna", {"b.wav": 0.25})
    assert [clip.id for clip in make(tmp_path / "out", folder)[0].clips] == ["a.wav", "b.wav"]
    other = speaker(tmp_path / "other", "anna", {"a.wav": 0.75, "b.wav": 0.25})  # other sound of the same names
    with pytest.raises(TrainerError, match=r"own-anna holds 2 recordings that are not there, a.wav first; rename"):
        make(tmp_path / "out", other)
    assert [clip.samples for clip in make(tmp_path / "out", folder)[0].clips] == [8000, 4000]
    (tmp_path / "out" / "own-anna.flac").unlink()
    assert [clip.samples for clip in make(tmp_path / "out", other)[0].clips] == [12000, 4000]
    with pytest.raises(TrainerError, match="own-anna: two folders"):
        make(tmp_path / "out", folder, speaker(tmp_path / "elsewhere", "anna", {"c.wav": 0.5}))


@pytest.mark.parametrize("content", ["{", '{"streams": [1]}', '{"streams": [{"name": "x"}]}', "[]"])
def test_a_damaged_index_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "negatives.json").write_text(content)
    with pytest.raises(TrainerError, match=r"negatives\.json: damaged"):
        load_negatives(tmp_path, WORDS)


def test_what_is_no_sound_is_named(tmp_path: Path, ffmpeg: None) -> None:
    folder = speaker(tmp_path, "anna", {"a.wav": 0.5})
    (folder / "b.mp3").write_bytes(b"no sound at all")
    with pytest.raises(TrainerError, match=r"b\.mp3: no sound that ffmpeg can read"):
        make(tmp_path / "out", folder)
    with pytest.raises(TrainerError, match="holds no recordings"):
        (tmp_path / "empty").mkdir()
        make(tmp_path / "out", tmp_path / "empty")
    with pytest.raises(
        TrainerError, match=r"a\.wav: must be a folder of one speaker's recordings, is none; name the f"
    ):
        make(tmp_path / "out", folder / "a.wav")
    with pytest.raises(TrainerError, match="holds no negatives"):
        load_negatives(tmp_path / "nowhere", WORDS)
    with pytest.raises(TrainerError, match=r"b\.mp3: must be a folder of negatives, got a file; name another"):
        make(folder / "b.mp3", folder)


def test_no_speaker_stands_in_both_splits() -> None:
    speakers = {split: {s.speaker for s in SOURCES if s.split == split} for split in ("train", "test")}
    assert speakers["train"] and speakers["test"] and not speakers["train"] & speakers["test"]


def test_every_cell_of_the_table_has_its_column() -> None:
    clips = (Clip("a", 0, 16000 * 90),)
    streams = [Stream("n", "who", "en", "train", "CC0", "", "", clips, kind) for kind in ("speech", "words")]
    shown = [list(column.cells) for column in table(streams).columns]
    assert [column[0] for column in shown] == ["n", "who", "en", "train", "1", "1.5", "CC0"]
    assert shown[3] == ["train", "train, words"]


def test_clips_with_a_word_are_left_out(tmp_path: Path, ffmpeg: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "out", speaker(tmp_path, "anna", {"a.wav": 0.5, "b.wav": 0.25, "c.wav": 0.5}))
    rows = tmp_path / "excluded.csv"
    rows.write_text("source,word,clip,held in\nown-anna,stop,b.wav,name\nown-anna,up,c.wav,name\n")
    monkeypatch.setattr(transcripts, "EXCLUDED", rows)
    ((stream, pcm),) = load_negatives(tmp_path / "out", WORDS, "train")
    assert [(c.id, c.start) for c in stream.clips] == [("a.wav", 0), ("c.wav", 8000)] and len(pcm) == 16000
    assert list_negatives(tmp_path / "out", WORDS, "train") == [stream]
    assert load_negatives(tmp_path / "out", WORDS, "train", {"nobody"}) == []


def test_the_list_of_clips_with_a_word_is_made_from_transcripts_and_names(tmp_path: Path) -> None:
    script = tmp_path / "usr/share/games/fillets-ng/script/city"
    script.mkdir(parents=True)
    (script / "dialogs_nl.lua").write_text(
        'dialogId("a-1", "font", "English stop.")\ndialogStr("De stop eruit getrokken, of niet.")\n\n\n'
        'dialogId("a-2", "font", "Stop.")\ndialogStr("Rustig \\"maar\\".")\n'
    )
    root = "usr/share/games/fillets-ng/sound/city/nl"
    clips = tuple(Clip(f"{root}/{name}.ogg", 0, 1) for name in ("a-1", "a-2"))
    nl = Stream("fillets-nl", "x", "nl", "test", "", "", "", clips)
    en = Stream(
        "asterisk-en", "y", "en", "test", "", "", "", (Clip("s/beam-on.g722", 0, 1), Clip("s/yesterday.g722", 0, 1))
    )
    rows = list_excluded([nl, en], tmp_path)
    assert [(row["source"], row["word"], Path(row["clip"]).stem, row["held in"]) for row in rows] == [
        ("fillets-nl", "stop", "a-1", "transcript"),
        ("fillets-nl", "off", "a-1", "transcript"),
        ("asterisk-en", "on", "beam-on", "name"),
    ]


def test_transcripts_of_pictures_and_of_numbered_speech(tmp_path: Path) -> None:
    stamps = "usr/share/tuxpaint/stamps"
    (tmp_path / stamps).mkdir(parents=True)
    (tmp_path / stamps / "sign.txt").write_text("A stop sign.\nbe.utf8=Знак.\nru.utf8=Знак «Стоп».\n")
    game = "usr/share/scummvm/drascula/en"
    (tmp_path / game).mkdir(parents=True)
    said = [f"this is line {number}" for number in range(12)]
    said[3] = "Yes, master"
    tables = [said, *([f"{letter} {line}" for line in said] for letter in "abcdefghi")]
    (tmp_path / game / "drascula.dat").write_bytes(b"DRASCULA\6" + b"".join(map(table_of_texts, tables)))
    clips = {f"tuxpaint-{x}": [f"{stamps}/{n}_desc_{x}.ogg" for n in ("sign", "stop", "up-1")] for x in ("be", "ru")}
    clips["drascula"] = [f"{game}/{name}.ALS" for name in ("2", "3", "VB3")]
    streams = [
        Stream(name, name, name[-2:], "train", "", "", "", tuple(Clip(id_, 0, 1) for id_ in ids))
        for name, ids in clips.items()
    ]
    rows = list_excluded(streams, tmp_path)
    assert [(row["source"], row["word"], Path(row["clip"]).stem, row["held in"]) for row in rows] == [
        ("tuxpaint-be", "stop", "stop_desc_be", "name"),
        ("tuxpaint-be", "up", "up-1_desc_be", "name"),
        ("tuxpaint-ru", "stop", "sign_desc_ru", "transcript"),
        ("tuxpaint-ru", "stop", "stop_desc_ru", "name"),
        ("tuxpaint-ru", "up", "up-1_desc_ru", "name"),
        ("drascula", "yes", "3", "transcript"),
        ("drascula", "yes", "VB3", "transcript"),
    ]


def table_of_texts(texts: list[str]) -> bytes:
    """As drascula.dat has them: count, size, then two bytes of length before each text."""
    found = b"\0\0"
    for text in texts:
        entry = text.encode() + b"\0"
        found += (len(entry) + 2).to_bytes(2, "big") + entry
    return len(texts).to_bytes(2, "big") + len(found).to_bytes(2, "big") + found


def test_a_game_gives_its_speech_and_its_texts(tmp_path: Path, ffmpeg: None) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb on this machine")
    game = tmp_path / "made/usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
    game.parent.mkdir(parents=True)
    sound = encoded(speaker(tmp_path, "hero", {"a.wav": 0.5}, 11025) / "a.wav")
    spoken = ("070012J1", "070012J2", "07001FP1", "07SSSSJ1", "07XXXXP1", "07XXXXJ1", "JOE00421")
    things = b"It is a stone*24\r\nStop*01That is no stone*24\r\n"
    game.write_bytes(
        queen({"TALK.DOG": dialogue(), "QUEEN2.JAS": things, "C01A_011.SB": sound} | {f"{n}.SB": sound for n in spoken})
    )
    control = tmp_path / "made/DEBIAN/control"
    control.parent.mkdir()
    control.write_text("Package: q\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: d\n")
    store = tmp_path / "out/packages"
    store.mkdir(parents=True)
    deb = store / "flight-of-the-amazon-queen_1.deb"
    subprocess.run(["dpkg-deb", "-b", str(tmp_path / "made"), str(deb)], check=True, capture_output=True)
    with Progress(disable=True) as progress:
        sources = [source for source in SOURCES if source.name.startswith("queen-")]
        joe, others = make_negatives(tmp_path / "out", sources, [], progress)
    assert [Path(clip.id).stem for one in (joe, others) for clip in one.clips] == [
        *("070012J1", "070012J2", "07SSSSJ1", "07XXXXJ1", "JOE00421"),
        *("07001FP1", "07XXXXP1"),
    ]
    assert all(abs(clip.samples - 8000) < 2500 for clip in joe.clips)
    rows = list_excluded([joe, others], tmp_path / "made")
    assert [(row["source"], row["word"], Path(row["clip"]).stem) for row in rows] == [
        ("queen-joe", "stop", "JOE00421"),
        ("queen-joe", "yes", "070012J1"),
        ("queen-joe", "yes", "070012J2"),
        ("queen-joe", "no", "JOE00421"),
        ("queen-joe", "go", "07SSSSJ1"),
        ("queen-others", "go", "07XXXXP1"),
    ]


def encoded(wav: Path) -> bytes:
    mp3 = wav.with_suffix(".mp3")
    subprocess.run(["ffmpeg", "-i", str(wav), "-b:a", "16k", str(mp3)], check=True, capture_output=True)
    return mp3.read_bytes()


def queen(files: dict[str, bytes]) -> bytes:
    """As queen.1c has them: name, disk, place and size of each file, then the files."""
    head, at = b"QTBLCEM10\0\0\0\1" + len(files).to_bytes(2, "big"), 15 + 21 * len(files)
    for name, data in files.items():
        head += name.encode().ljust(12, b"\0") + b"\1" + at.to_bytes(4, "big") + len(data).to_bytes(4, "big")
        at += len(data)
    return head + b"".join(files.values())


def dialogue() -> bytes:
    """Talk 7 of one level, as a .DOG file has it: 20 bytes of head, numbers, the level's tree, sentences of the hero,
    of the other, and what both say when they meet again; each sentence behind its length, filled up to 4 bytes or 2."""

    def sentences(*said: tuple[int, str]) -> bytes:
        found = b""
        for number, text in said:
            entry = b"\0\0" + number.to_bytes(2, "big") + bytes([len(text)]) + text.encode()
            found += entry + bytes(-(start + len(found) + len(entry)) % 4)
        return found

    start = 32 + 96
    hero = sentences((0, "Hi.*01Let's go!"), (0x12, "Oh yes!*02I know."))
    start += len(hero)
    other = sentences((0x1F, "Who?"))
    again = b"".join(bytes([len(t)]) + t + bytes(-(1 + len(t)) % 2) for t in (b"Go away*03.", b"Hm"))
    first, cutaway, second = start, start + len(other), start + len(other)
    numbers = (1, 1, 7, 2, 1, *([0] * 6), first, cutaway, second)
    head = b"".join(number.to_bytes(2, "big") for number in numbers).ljust(32 + 96, b"\0")
    return bytes(20) + head + hero + other + again


def test_speech_of_bytes_without_a_header(tmp_path: Path) -> None:
    file = tmp_path / "1.ALS"
    file.write_bytes(bytes([128] * 2000 + [255] * 2000 + [1] * 2000))
    pcm = negatives._raw(file, 8000)
    assert len(pcm) == 12000 and np.abs(pcm[:3500]).max() < 500
    assert np.abs(pcm[4500:7500] - 127 * 256.0).max() < 500 and np.abs(pcm[8500:11500] + 127 * 256.0).max() < 500


def test_the_committed_list_knows_its_sources() -> None:
    with transcripts.EXCLUDED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} <= {source.name for source in SOURCES}
    assert {row["word"] for row in rows} <= transcripts.SOUNDS_LIKE.keys() and excluded("fillets-nl", ["stop"])
