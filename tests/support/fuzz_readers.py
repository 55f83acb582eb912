"""python tests/support/fuzz_readers.py READER SECONDS CORPUS NEW: files made from those of CORPUS, read until the time
is over; fails on anything but a value or one sentence.

With atheris (`pip install -e '.[fuzz]'`) guided by the branches that a file reaches, and what reaches new ones is kept
in the folder NEW; without it by chance alone. The figures go to stdout as one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

LONGEST = 60_000
guided = atheris.instrument_imports(include=["converter", "host"]) if atheris else contextlib.nullcontext()
with guided:
    from converter.audio.wav import read_wav
    from converter.errors import ConvertError
    from converter.onnx_qdq.reader import read_onnx
    from converter.run_folder import ArtifactError, ModelArtifact
    from converter.spec import SpecError
    from converter.tflite.reader import read_tflite
    from host.emulator.errors import BoardError
    from host.emulator.image.load import load_image
    from host.errors import HostError
    from host.link.protocol import parse_line
    from host.report.run_page import write_report
    from host.report.sweep_data import load_sweep

SENTENCES = (ConvertError, ArtifactError, SpecError, BoardError, HostError)
Reader = Callable[[bytes, Path], object]


def artifact(data: bytes, folder: Path) -> None:
    (folder / "artifact.json").write_bytes(data)
    ModelArtifact.load(folder)


def report(kind: str) -> Reader:
    """The page about the committed run, with this file."""

    def read(data: bytes, folder: Path) -> None:
        file = folder / f"{kind}.json"
        file.write_bytes(data)
        if not (folder / "artifact.json").exists():
            kept = Path(__file__).resolve().parents[2] / "reference" / "artifact.json"
            (folder / "artifact.json").write_bytes(kept.read_bytes())
        page = write_report(folder, folder / "page.html", **({} if kind == "evaluation" else {kind: file})).read_text()
        assert "<script" not in page

    return read


def sweep(data: bytes, folder: Path) -> None:
    (folder / "sweep.json").write_bytes(data)
    load_sweep(folder)


def by_file(name: str, read: Callable[[Path], object]) -> Reader:
    def reader(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)
        read(folder / name)

    return reader


READERS: dict[str, Reader] = {
    "artifact": artifact,
    **{kind: report(kind) for kind in ("evaluation", "profile", "trial", "compare", "checks")},
    "sweep": sweep,
    "onnx": lambda data, _: read_onnx(data),
    "tflite": lambda data, _: read_tflite(data),
    "elf": by_file("a.elf", load_image),
    "hex": by_file("a.hex", load_image),
    "wav": by_file("a.wav", lambda file: read_wav(file)),
    "line": lambda data, _: parse_line(data),
}


def try_one(read: Reader, data: bytes, folder: Path) -> None:
    """Raises what is neither a value nor a sentence."""
    try:
        read(data, folder)
    except SENTENCES as error:
        told = str(error)
        assert told and len(told.splitlines()) == 1 and len(told) < 1000, told


def by_chance(seeds: list[bytes]) -> Iterator[bytes]:
    """Bytes changed, left out, doubled, or taken from another file."""
    rng = random.Random(0)
    while True:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            at, size = rng.randint(0, len(data)), rng.choice((1, 1, 2, 4, 16, 64))
            other = rng.choice(seeds)
            start = rng.randint(0, len(other))
            piece = rng.choice((rng.randbytes(size), b"", other[start : start + size], bytes(data[at : at + size]) * 2))
            data[at : at + size] = piece
        yield bytes(data[:LONGEST])


def main() -> None:
    name, seconds, corpus, new = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    read, tried, began = READERS[name], 0, time.monotonic()
    new.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:

        def once(data: bytes) -> None:
            nonlocal tried
            tried += 1
            try:
                try_one(read, data, Path(folder))
            except BaseException:
                (new / "fault").write_bytes(data)
                raise

        if atheris is None:
            seeds = [file.read_bytes() for file in sorted(corpus.iterdir())]
            for data in by_chance(seeds):
                if time.monotonic() - began > seconds:
                    break
                once(data)
            print(json.dumps({"case": name, "tried": tried, "faults": []}))
            return
        limits = [f"-max_total_time={round(seconds)}", f"-max_len={LONGEST}", "-rss_limit_mb=2000", "-timeout=30"]
        options = [*limits, "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={new}/fault-"]
        atheris.Setup([sys.argv[0], *options, str(new), str(corpus)], once)
        import atexit

        atexit.register(lambda: print(json.dumps({"case": name, "tried": tried, "faults": []}), flush=True))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
