"""Continuous speech without the words: what false accepts per hour are measured and trained on.

A folder of negatives holds a FLAC stream (16 kHz, mono, 16 bit) per speaker and negatives.json, which names every clip
in them. Sources are Debian packages, downloaded and unpacked but not installed, synthetic voices, and a user's own
recordings. Split by SPEAKER: what a test speaker says is never trained on, in no language. Clips whose transcript or
name holds a word, or sounds like one, are listed by id in negatives_excluded.csv, made from the transcripts before any
model was scored.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from rich.progress import Progress
from rich.table import Table

from converter.arrays import Int16
from converter.checked import Fields, Items, Row, Text, Whole, build, check, json_in
from converter.files import finish_set, write_set
from converter.target import SAMPLE_RATE_HZ
from trainer.data.ffmpeg import COMPRESSED, decode, require
from trainer.data.recordings import resample, to_int16
from trainer.data.synthetic_speech import ENGINES, MINUTES, continuous_speech
from trainer.data.talkies import unpack_games
from trainer.data.transcripts import SOUNDS_LIKE, excluded, named, with_words
from trainer.errors import TrainerError

Split = Literal["train", "test"]
Kind = Literal["speech", "words", "synthetic", "music"]  # rates are counted on speech; words lie apart, as commands do
INDEX = "negatives.json"
SUFFIXES = {".wav", ".flac", *COMPRESSED}
BATCH = 40  # files to an ffmpeg


@dataclass(frozen=True)
class Source:
    """Sound inside a Debian package: files that `pattern` finds in it and whose name `voice` (a regular expression)
    finds, all of one speaker or group of speakers; or a program that speaks. With `raw_hz` the files are unsigned
    bytes at that rate and nothing else."""

    name: str
    package: str
    pattern: str
    speaker: str
    language: str
    split: Split
    licence: str
    kind: Kind = "speech"
    voice: str = ""
    raw_hz: int = 0


def _asterisk(language: str, speaker: str, split: Split, licence: str = "CC-BY-SA-3.0") -> Source:
    package = f"asterisk-core-sounds-{language}-g722"
    return Source(
        f"asterisk-{language}", package, "usr/share/asterisk/sounds/**/*.g722", speaker, language, split, licence
    )


def _fillets(language: str, split: Split, role: str = "", voice: str = "") -> Source:
    package, pattern = f"fillets-ng-data-{language}", f"usr/share/games/fillets-ng/sound/**/{language}/*.ogg"
    name = f"fillets-{language}{role}"
    return Source(name, package, pattern, name, language, split, "GPL-2", voice=voice)


def _prompts(name: str, package: str, pattern: str, language: str, licence: str) -> Source:
    """Words and phrases of telephone quality."""
    path = f"usr/share/asterisk/sounds/{pattern}"
    return Source(name, package, path, name, language, "train", licence, "words")


def _words(name: str, package: str, pattern: str, licence: str) -> Source:
    return Source(name, package, pattern, name, "many", "train", licence, "words")


def _stamps(language: str) -> Source:
    """What a picture shows, in a phrase or a sentence or two, most of them by one speaker a language."""
    name, path = f"tuxpaint-{language}", f"usr/share/tuxpaint/stamps/**/*_desc_{language}.ogg"
    return Source(name, "tuxpaint-stamps-default", path, name, language, "train", "GPL-2", "words")


def _queen(role: str, voice: str) -> Source:
    """What the hero of a talkie game says, and those that he talks to; scenes in which several do are left out."""
    package, path = "flight-of-the-amazon-queen", "usr/share/scummvm/flight-of-the-amazon-queen/queen/*.mp3"
    name = f"queen-{role}"
    return Source(name, package, path, name, "en", "train", "Flight-of-the-Amazon-Queen-License", voice=voice)


# The Spanish prompts are spoken by the voice of the English ones. The Czech dialogues have two leading parts, whose
# letter is in a file's name.
SOURCES = (
    _asterisk("en", "allison", "test"),
    _asterisk("es", "allison", "test"),
    _fillets("nl", "test"),
    _asterisk("fr", "june", "train"),
    _asterisk("it", "carlo", "train"),
    _asterisk("ru", "maxim", "train", "CC-BY-3.0"),
    _fillets("cs", "train", "-small", r"-m(-|\.)"),
    _fillets("cs", "train", "-large", r"-v(-|\.)"),
    _fillets("cs", "train", "-others", r"^(?!.*-[mv](-|\.))"),
    _prompts("menardi", "asterisk-prompt-it-menardi-wav", "**/*.wav", "it", "CC-BY-SA-3.0"),
    _prompts("armelle", "asterisk-prompt-fr-armelle", "**/*.gsm", "fr", "BSD-3-clause"),
    _words("klettres", "klettres-data", "usr/share/klettres/*/*/*.ogg", "GPL-2+"),
    _words("ktuberling", "ktuberling-data", "usr/share/ktuberling/sounds/*/*.*", "GPL-2+"),
    _words("hedgewars", "hedgewars-data", "usr/share/games/hedgewars/Data/Sounds/voices/*/*.ogg", "GPL-2"),
    Source(
        "drascula",
        "drascula",
        "usr/share/scummvm/drascula/en/*.ALS",
        "drascula",
        "en",
        "train",
        "Drascula-License",
        voice=r"^(\d{3}|(B|BJ|D|E|I|L|P|T|VB)\d+)\.",
        raw_hz=11025,
    ),
    _queen("joe", r"^(\d\d.{4}J|JOE(?!00[0-3]|0040))"),
    _queen("others", r"^\d\d.{4}P"),
    Source(
        "sky",
        "beneath-a-steel-sky",
        "usr/share/scummvm/beneath-a-steel-sky/sky/*.u8",
        "sky",
        "en",
        "train",
        "Beneath-a-Steel-Sky-License",
        voice=r"^(?!52403|53352|54520|55061)5([0-4]|5[01])",
        raw_hz=11025,
    ),
    *(_stamps(language) for language in ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru")),
    Source(
        "opsound",
        "asterisk-moh-opsound-g722",
        "usr/share/asterisk/moh/*.g722",
        "opsound",
        "none",
        "train",
        "CC-BY-SA-3.0",
        "music",
    ),
    *(Source(f"synthetic-{e}", e, "", e, "many", "train", "none", "synthetic") for e in ENGINES),
)


@dataclass(frozen=True)
class Clip:
    """A clip's place in its stream, in samples."""

    id: str
    start: int
    samples: int


@dataclass(frozen=True)
class Stream:
    """One speaker's clips one after the other."""

    name: str
    speaker: str
    language: str
    split: Split
    licence: str
    file: str
    sha256: str
    clips: tuple[Clip, ...]
    kind: Kind = "speech"
    made_of: str = ""  # of a user's own recordings: the sha256 of their names and bytes

    @property
    def seconds(self) -> float:
        """Of all clips."""
        return sum(clip.samples for clip in self.clips) / SAMPLE_RATE_HZ


def make_negatives(
    out: Path, sources: Sequence[Source], recordings: Sequence[Path], progress: Progress
) -> list[Stream]:
    """Download, unpack and decode what is missing under `out`; a stream is whole or absent, so an interrupted run goes
    on where it was, and a folder that has got other recordings is decoded anew. Raises TrainerError."""
    require("ffmpeg", "apt-get install ffmpeg")
    if out.is_file():
        raise TrainerError(f"{out}: must be a folder of negatives, got a file; name another")
    out.mkdir(parents=True, exist_ok=True)
    known = {source.name for source in SOURCES}
    streams = {
        stream.name: stream
        for stream in _index(out)
        if (stream.name in known or stream.name.startswith("own-")) and _is_whole(out, stream)
    }
    own = {folder: _recordings(folder) for folder in recordings}  # before anything takes long
    wanted = [source.name for source in sources] + [_own_name(folder) for folder in recordings]
    twice = {name for name in wanted if wanted.count(name) > 1}
    if twice:
        raise TrainerError(f"{min(twice)}: two folders give this name; rename one, for a name is a speaker")
    for source in sources:
        if source.kind == "synthetic" and source.name not in streams:
            require(source.package, f"apt-get install {source.package}")
    task = progress.add_task("speakers", total=len(wanted), completed=len(streams.keys() & set(wanted)))
    for source in sources:
        if source.name not in streams and source.kind == "synthetic":
            _keep(out, streams, *_joined(source, continuous_speech(source.package, MINUTES, progress)))
            progress.advance(task)
        elif source.name not in streams:
            root = _unpacked(source.package, out / "packages", out / "unpacked")
            found = sorted(file for file in root.glob(source.pattern) if re.search(source.voice, file.name))
            found = [file for file in found if source.raw_hz or file.suffix.lower() in SUFFIXES]
            files = {str(file.relative_to(root)): file for file in found}
            _keep(out, streams, *_stream(source, files, progress))
            shutil.rmtree(root)
            progress.advance(task)
    for folder, files in own.items():
        name = _own_name(folder)
        content = _digest(files)
        if name not in streams or streams[name].made_of != content:
            stream, flac = _stream(Source(name, "", "", name, "own", "train", "your own"), files, progress)
            if name in streams:
                _require_grown(out, folder, streams[name], stream, flac)
            _keep(out, streams, replace(stream, made_of=content), flac)
            progress.advance(task)
    return [streams[name] for name in wanted]


def list_negatives(folder: Path, words: Sequence[str], split: Split | None = None) -> list[Stream]:
    """Streams of a folder without the clips that hold one of the words, the clips placed anew; no sound is read. Raises
    TrainerError."""
    return [
        _placed(stream, [(clip.id, clip.samples) for clip in _kept(stream, words)])
        for stream in _streams(folder, split)
    ]


def load_negatives(
    folder: Path, words: Sequence[str], split: Split | None = None, only: Collection[str] | None = None
) -> list[tuple[Stream, Int16]]:
    """The same streams with their int16 PCM; of those named in `only` alone, if given. Raises TrainerError."""
    found = []
    for stream in _streams(folder, split):
        if only is not None and stream.name not in only:
            continue
        if not _is_whole(folder, stream):
            raise TrainerError(f"{folder / stream.file}: missing or damaged; make it again with `trainer negatives`")
        pcm, _ = soundfile.read(folder / stream.file, dtype="int16")
        if pcm.shape != (sum(clip.samples for clip in stream.clips),):
            raise TrainerError(
                f"{folder / INDEX}: its clips are not those of {stream.file}; remove it and make it again"
            )
        kept = _kept(stream, words)
        parts: list[Int16] = [pcm[clip.start : clip.start + clip.samples] for clip in kept]
        joined = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        found.append((_placed(stream, [(clip.id, clip.samples) for clip in kept]), joined))
    return found


def _streams(folder: Path, split: Split | None) -> list[Stream]:
    found = [stream for stream in _index(folder) if split is None or stream.split == split]
    if not found:
        which = f"negatives of the split {split}" if split and (folder / INDEX).is_file() else "negatives"
        raise TrainerError(f"{folder}: holds no {which}; make some with `python -m trainer negatives --out {folder}`")
    return found


def _kept(stream: Stream, words: Sequence[str]) -> list[Clip]:
    out = excluded(stream.name, words)
    unlisted = [word for word in words if word not in SOUNDS_LIKE]
    return [clip for clip in stream.clips if clip.id not in out and not named(clip.id, unlisted)]


def list_excluded(streams: Sequence[Stream], packages: Path) -> list[dict[str, str]]:
    """The rows of negatives_excluded.csv: clips whose name, or whose transcript in packages unpacked under `packages`,
    holds a word or what sounds like it."""
    return [
        row for one in streams for row in with_words(one.name, one.language, [clip.id for clip in one.clips], packages)
    ]


def table(streams: Sequence[Stream]) -> Table:
    """For the terminal: who speaks how long, and under which licence."""
    found = Table(title="Negatives", title_justify="left")
    for column in ("source", "speaker", "language", "use", "clips", "minutes", "licence"):
        found.add_column(column, justify="right" if column in ("clips", "minutes") else "left")
    for s in streams:
        use = s.split if s.kind == "speech" else f"{s.split}, {s.kind}"
        size = f"{len(s.clips):,}", f"{s.seconds / 60:.1f}"
        found.add_row(s.name, s.speaker, s.language, use, *size, s.licence)
    return found


def _digest(files: dict[str, Path]) -> str:
    found = hashlib.sha256()
    for name, file in files.items():
        content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        found.update(f"{name}\0{content}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _recordings(folder: Path) -> dict[str, Path]:
    """Name within the folder -> sound file; raises TrainerError where there are none."""
    if not folder.is_dir():
        raise TrainerError(f"{folder}: must be a folder of one speaker's recordings, is none; name the folder")
    files = {str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.suffix.lower() in SUFFIXES}
    if not files:
        raise TrainerError(f"{folder}: holds no recordings; sound files end in {', '.join(sorted(SUFFIXES))}")
    return files


def _own_name(folder: Path) -> str:
    return f"own-{folder.resolve().name}"


def _require_grown(out: Path, folder: Path, before: Stream, now: Stream, flac: bytes) -> None:
    """TrainerError unless the folder still holds every recording that its stream was made of: another folder of this
    name must not take its place."""

    def sounds(stream: Stream, file: Path | io.BytesIO) -> dict[str, bytes]:
        pcm = soundfile.read(file, dtype="int16")[0]
        return {clip.id: pcm[clip.start : clip.start + clip.samples].tobytes() for clip in stream.clips}

    held, found = sounds(before, out / before.file), sounds(now, io.BytesIO(flac))
    if lost := [name for name, sound in held.items() if found.get(name) != sound]:
        raise TrainerError(
            f"{folder}: {before.name} holds {len(lost)} recordings that are not there, {lost[0][:60]} first; "
            f"rename the folder, for a name is a speaker, or remove {out / before.file} to make it of this folder alone"
        )


def _unpacked(package: str, store: Path, folder: Path) -> Path:
    """The package's files under `folder`; apt checks the signature of its index and the checksum of the file."""
    store.mkdir(exist_ok=True)
    if not list(store.glob(f"{package}_*.deb")):
        mend = f"put {package}_*.deb into {store}, or give recordings of your own by --recordings"
        if shutil.which("apt-get") is None:
            raise TrainerError(f"{package}: needs apt-get to be downloaded; {mend}")
        done = subprocess.run(["apt-get", "download", package], cwd=store, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise TrainerError(f"{package}: apt-get cannot download it ({reason}); run apt-get update, or {mend}")
    require("dpkg-deb", "apt-get install dpkg")
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    file = sorted(store.glob(f"{package}_*.deb"))[-1]
    done = subprocess.run(["dpkg-deb", "-x", str(file), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainerError(f"{file}: cannot be unpacked ({reason[-200:]}); free some space, or remove it if damaged")
    unpack_games(folder)
    return folder


def _stream(source: Source, files: dict[str, Path], progress: Progress) -> tuple[Stream, bytes]:
    """The files decoded into one FLAC."""
    name = source.name
    if not files:
        raise TrainerError(f"{name}: holds no recordings; sound files end in {', '.join(sorted(SUFFIXES))}")
    task = progress.add_task(f"{name}: recordings", total=len(files))
    parts: list[tuple[str, Int16]] = []
    ids = list(files)
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        paths = [files[key] for key in batch]
        decoded = [_raw(path, source.raw_hz) for path in paths] if source.raw_hz else decode(paths)
        parts += zip(batch, decoded, strict=True)
        progress.advance(task, len(batch))
    return _joined(source, parts)


def _raw(file: Path, rate_hz: int) -> Int16:
    """Unsigned bytes at a rate as int16 PCM at 16 kHz."""
    return to_int16(resample((np.fromfile(file, np.uint8) - 128.0) / 128, rate_hz, SAMPLE_RATE_HZ))


def _joined(source: Source, parts: Sequence[tuple[str, Int16]]) -> tuple[Stream, bytes]:
    name = source.name
    data = io.BytesIO()
    soundfile.write(data, np.concatenate([pcm for _, pcm in parts]), SAMPLE_RATE_HZ, "PCM_16", format="FLAC")
    digest = hashlib.sha256(data.getvalue()).hexdigest()
    stream = Stream(
        name, source.speaker, source.language, source.split, source.licence, f"{name}.flac", digest, (), source.kind
    )
    return _placed(stream, [(key, len(pcm)) for key, pcm in parts]), data.getvalue()


def _placed(stream: Stream, lengths: Sequence[tuple[str, int]]) -> Stream:
    starts = np.cumsum([0, *(samples for _, samples in lengths)])
    clips = (Clip(key, int(at), samples) for (key, samples), at in zip(lengths, starts[:-1], strict=True))
    return Stream(**{**stream.__dict__, "clips": tuple(clips)})


def _index(folder: Path) -> list[Stream]:
    file = folder / INDEX
    try:
        finish_set(folder)
        if not file.is_file():
            return []
        found = json_in(file)
        check("", found, _STREAMS)
        rows = [
            {**row, "clips": [dict(zip(_CLIP, clip, strict=True)) for clip in row["clips"]]} for row in found["streams"]
        ]
        streams = [build(Stream, row, "streams") for row in rows]
        _require_order(streams)
    except (OSError, ValueError) as error:
        raise TrainerError(f"{file}: damaged ({error}); remove it and run `trainer negatives` again") from None
    return streams


_CLIP = ("id", "start", "samples")
_STREAMS = Fields({"streams": Items(Fields({"clips": Items(Row((Text(), Whole(), Whole(0, 1 << 31))))}), 0, 10_000)})


def _require_order(streams: Sequence[Stream]) -> None:
    """Raises ValueError unless each name is that of one stream and of a file in its folder, and clips follow each
    other."""
    names = {stream.name for stream in streams}
    for stream in streams:
        if stream.file != f"{stream.name}.flac" or Path(stream.file).name != stream.file:
            raise ValueError(f"{stream.name[:60]}: its file must be its name with .flac, got {stream.file[:60]}")
        starts = np.cumsum([0, *(clip.samples for clip in stream.clips)])
        if [clip.start for clip in stream.clips] != starts[:-1].tolist():
            raise ValueError(f"{stream.name[:60]}: each clip must begin where the one before it ends")
    if len(names) != len(streams):
        raise ValueError("two streams have one name")


def _keep(folder: Path, streams: dict[str, Stream], stream: Stream, flac: bytes) -> None:
    """Adds a stream: its file and the index, both or none. Raises WriteError."""
    streams[stream.name] = stream
    rows = [{**asdict(one), "clips": [[c.id, c.start, c.samples] for c in one.clips]} for one in streams.values()]
    write_set({stream.file: flac, INDEX: (json.dumps({"streams": rows}) + "\n").encode()}, folder)


def _is_whole(folder: Path, stream: Stream) -> bool:
    file = folder / stream.file
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == stream.sha256
