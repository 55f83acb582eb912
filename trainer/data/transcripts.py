"""What is said in clips of negatives, and which of them hold a word.

Clips whose transcript or name holds a word, or sounds like one, are listed by id in negatives_excluded.csv, made from
the transcripts before any model was scored.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer.data.talkies import QUEEN, queen_files

EXCLUDED = Path(__file__).with_name("negatives_excluded.csv")


def excluded(source: str, words: Sequence[str]) -> set[str]:
    """Ids of the source's clips that hold one of the words or a homophone, by the committed list."""
    with EXCLUDED.open(newline="") as file:
        return {row["clip"] for row in csv.DictReader(file) if row["source"] == source and row["word"] in words}


def named(clip: str, words: Sequence[str]) -> bool:
    """True where the clip's name holds one of the words: all that is known of a word that no list was made for."""
    stem = re.sub(r"[-_]", " ", Path(clip).stem)
    return any(re.search(rf"\b{re.escape(word)}\b", stem, re.IGNORECASE) for word in words)


# What a word sounds like in a source's language, beside itself as a word of a transcript or of a file's name.
SOUNDS_LIKE = {
    "stop": {"nl": r"\w*stop\w*", "cs": r"\w*stop\w*", "many": r"\w*(stop|стоп|στοπ)\w*"},
    "yes": {"nl": "jes", "cs": "jes", "many": r"yes\w*"},
    "no": {"nl": "nou", "cs": "no|nou", "many": "no+|но"},
    "go": {"nl": "goo|gou", "cs": "gou", "many": "go|го"},
    "down": {"nl": "daun", "cs": "daun"},
    "on": {"cs": "on", "many": "on|он"},
    "off": {"nl": "of", "cs": "of"},
    "up": {},
    "left": {},
    "right": {"nl": "rijt|raait", "cs": "rajt"},
    "bed": {"nl": "bed|bet", "cs": "bet"},
    "cat": {"nl": "cat|kat|ket", "cs": "kat|ket"},
    "happy": {"nl": "happy|happie|heppie", "cs": "hepy|hepi"},
    "computer": {"nl": r"computer\w*", "cs": r"kom?pju\w*|komputer\w*"},
}


def with_words(source: str, language: str, clips: Sequence[str], packages: Path) -> list[dict[str, str]]:
    """A source's rows of negatives_excluded.csv; its transcripts are read in packages unpacked under `packages`
    (fillets-ng-data, tuxpaint-stamps-default, drascula, flight-of-the-amazon-queen). The rows of `sky` come from its
    texts too, whose code of letters is in no package: they are in the list alone."""
    said = _transcripts(source, language, clips, packages)
    manifold = source.startswith(("tuxpaint-", "drascula", "queen-"))  # names are no words, or in English
    nameless = source.startswith(("fillets-", "queen-"))
    rows = []
    for word, sounds in SOUNDS_LIKE.items():
        pattern = re.compile(rf"\b({word}|{sounds.get('many' if manifold else language, word)})\b", re.I)
        for clip in clips:
            name = "" if nameless else re.sub(r"[-_]", " ", Path(clip).stem)
            spoken = pattern.search(said.get(clip, ""))
            if spoken or pattern.search(name):
                rows.append(
                    {"source": source, "word": word, "clip": clip, "held in": "transcript" if spoken else "name"}
                )
    return rows


def _transcripts(source: str, language: str, clips: Sequence[str], packages: Path) -> dict[str, str]:
    """Clip's id -> what is said in it, where that is known."""
    paths = {clip: Path(clip) for clip in clips}
    if source.startswith("fillets-"):
        said = _dialogs(packages, language)
        return {key: said.get(f"{p.parts[-3]}/{p.stem}", said.get(p.stem, "")) for key, p in paths.items()}
    if source.startswith("tuxpaint-"):
        return {key: _stamp(packages / key, language) for key in paths}
    if source == "drascula" and paths:
        texts = _numbered_texts((packages / min(paths)).with_name("drascula.dat").read_bytes())
        return {key: texts.get(path.stem, "") for key, path in paths.items()}
    if source.startswith("queen-") and paths:
        texts = _queen_texts(queen_files((packages / min(paths)).parent.with_name(QUEEN).read_bytes()))
        return {key: texts[path.stem[:-1]] for key, path in paths.items()}
    return {}


def _dialogs(root: Path, language: str) -> dict[str, str]:
    """level/id, and id, -> what is said."""
    found = dict[str, str]()
    for file in sorted(root.glob(f"usr/share/games/fillets-ng/script/*/*dialogs_{language}.lua")):
        for part in file.read_text("utf-8", "replace").split("dialogId(")[1:]:
            said = re.search(r'dialogStr\(\s*"(.*)"', part)
            if said:
                key = part.split('"')[1]
                found |= {f"{file.parent.name}/{key}": said[1], key: found.get(key, "") + " " + said[1]}
    return found


def _numbered_texts(data: bytes) -> dict[str, str]:
    """Name of a file of speech without its suffix -> its English text, from ten tables in this order: how many texts,
    how many bytes they take, then (further languages follow) each one behind its length, ended by a zero; numbers are
    two bytes, the higher one first."""
    names, at = ["", "D", "B", "BJ", "E", "I", "L", "P", "T", "VB"], 0
    found: dict[str, str] = {}
    while names and at + 4 < len(data):
        count, size = (int.from_bytes(data[at + k : at + k + 2], "big") for k in (0, 2))
        texts = _texts(data[at + 4 : at + 4 + size], count) if 10 < count < 1000 and 10 * count < size else []
        if texts:
            found |= {f"{names[0]}{number}": text for number, text in enumerate(texts)}
            del names[0]
        at += 4 + size if texts else 1
    return found


def _texts(block: bytes, count: int) -> list[str]:
    """Of a table; none where the block is no table of so many."""
    found, at = [], 4
    for _ in range(count):
        end, step = block.find(b"\0", at), int.from_bytes(block[at - 2 : at], "big")
        if end < 0 or not 2 < step < 400:
            return []
        found.append(block[at:end].decode("latin-1"))
        at += step
    return found


def _stamp(clip: Path, language: str) -> str:
    """What is said of a picture, by its text file of a line a language; not every picture has one."""
    file = Path(str(clip).removesuffix(f"_desc_{language}.ogg") + ".txt")
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    return "".join(line.partition("=")[2] for line in lines if line.startswith(f"{language}.utf8="))


def _queen_texts(files: dict[str, bytes]) -> dict[str, str]:
    """Name of a file of speech without its last letter, which counts the sentence's parts -> the whole sentence: of
    dialogues what the hero (J) and who is talked to (P) say, by the talk's number and the sentence's; and what the
    hero says of things, the 41st of his sentences first."""
    things = files["QUEEN2.JAS"].decode("latin-1").split("\r\n")
    found = {f"JOE{number:04}": text for number, text in enumerate(things, 41)}
    for name, data in files.items():
        if name.endswith(".DOG"):
            found |= dict(_dialogue(data[20:]))
    return found


def _dialogue(data: bytes) -> Iterator[tuple[str, str]]:
    levels, talk, hero, others, first, again = (_number(data, at) for at in (0, 4, 6, 8, 22, 26))
    levels = min(levels, 65536 - levels)  # negative where it cannot be left
    for at, count, who in ((32 + 96 * levels, hero, "J"), (first, others, "P")):
        for _ in range(count):
            number = _number(data, at + 2)
            text, at = _sentence(data, at + 4, 4)
            yield _queen_name(talk, f"{number:x}", who), text
            if who == "J" and not number:
                yield _queen_name(talk, "SSSS", who), text  # said when they meet
    text, at = _sentence(data, again, 2)
    yield _queen_name(talk, "XXXX", "P"), text
    yield _queen_name(talk, "XXXX", "J"), _sentence(data, at, 2)[0]


def _queen_name(talk: int, number: str, who: str) -> str:
    return f"{talk:2}{number:>4}{who}".replace(" ", "0").upper()


def _sentence(data: bytes, at: int, align: int) -> tuple[str, int]:
    """The text behind its length, and where the next entry begins."""
    past = at + 1 + data[at]
    return data[at + 1 : past].decode("latin-1"), -(-past // align) * align if data[at] else past


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
