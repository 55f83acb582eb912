"""A model that listens -> the zip of an Arduino library that is a plain C library and a Zephyr module as well.

Its C is the firmware's own, file by file: the generated model, kernels, front end, detector, engine_aot.c and
listener.c; firmware/library adds kws.h, build files and examples. Arduino library specification 1.5, revision 2.2:
https://docs.arduino.cc/arduino-cli/library-specification
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

from converter.convert import Source, render
from converter.errors import ConvertError
from converter.files import write_atomic
from converter.spec import KwsSpec
from converter.tflite.tflm_only import TflmOnly

ROOT = Path(__file__).resolve().parents[1]
FIRMWARE = ROOT / "firmware"
TEMPLATE = FIRMWARE / "library"
VERSION = "1.0.0"
MOST_NAME = 63  # letters of a library's name
_HEADER = "kws_library.h"  # what examples include, replaced by the library's own name
_ARCHIVED = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can tell
_SPOTTER = ("engine.h", "engine_aot.c", "listener.h", "listener.c")  # of firmware/src
_GENERATED = ("frontend_tables.h", "kws_model.h", "model_aot.c", "model_aot.h")
# The IDE sets no flags per file and the core compiles by -Os; a file that asks for more behind this line gets it.
_OPTIMIZED = '#include "nn_optimize.h"\nNN_OPTIMIZE("O2")\n'


def library_name(spec: KwsSpec) -> str:
    """A C and library name of the words, of at most MOST_NAME letters.

    >>> library_name(KwsSpec.of_words(["yes", "stop"])), library_name(KwsSpec.of_words(["Guten Tag", "3D"]))
    ('kws_yes_stop', 'kws_guten_tag_3d')
    """
    words = [re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") for word in spec.words]
    return "_".join(["kws", *(word or "word" for word in words)])[:MOST_NAME].rstrip("_")


def library_files(source: Source | TflmOnly) -> dict[str, bytes]:
    """The library's files by path, the folder named after it in front. Raises ConvertError for a model that does not
    listen, or that the board's memory cannot hold."""
    if isinstance(source, TflmOnly):
        raise ConvertError(
            f"{source.name}: runs in TensorFlow Lite Micro only, because: {source.why}; a library is of a model that "
            "the compiled engine runs"
        )
    if not source.graph.spec_json:
        raise ConvertError(
            f"{source.name}: has no words and features, so it cannot listen; give a run folder or a wake word's .json"
        )
    spec = KwsSpec.from_json(source.graph.spec_json)
    name = library_name(spec)
    spoken = " and ".join(spec.words)
    names = {"NAME": name, "WORDS": spoken, "MODEL_ID": source.graph.model_id}
    readme = re.sub("|".join(names), lambda found: names[found[0]], (TEMPLATE / "README.md").read_text())
    files = {
        "library.properties": _properties(name, spec).encode(),
        "README.md": readme.encode(),
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
        f"src/{name}.h": b'// What a sketch includes, named after its words.\n#include "kws.h"\n',
        "src/kws_microphone.h": (FIRMWARE / "src" / "kws_microphone.h").read_bytes(),
        "src/kws.h": (TEMPLATE / "src" / "kws.h").read_bytes(),
    }
    for place in ("CMakeLists.txt", "extras", "zephyr"):
        found = TEMPLATE / place
        for file in sorted(found.rglob("*")) if found.is_dir() else [found]:
            files[file.relative_to(TEMPLATE).as_posix()] = file.read_bytes()
    for sketch in sorted(TEMPLATE.glob("examples/*/*.ino")):
        text = sketch.read_text().replace(_HEADER, f"{name}.h")
        files[sketch.relative_to(TEMPLATE).as_posix()] = text.encode()
    files |= {f"src/spotter/{file}": data for file, data in _spotter(source).items()}
    return {f"{name}/{path}": data for path, data in sorted(files.items())}


def _spotter(source: Source) -> dict[str, bytes]:
    """The C that is no part of the interface, by name; one folder, so that files find each other's headers beside
    themselves, as the IDE puts no folder but src/ in the way of includes."""
    libraries = [FIRMWARE / "lib" / room for room in ("nn", "frontend", "detector")]
    paths = [file for room in libraries for file in sorted(room.glob("*.[ch]"))]
    paths += [*(FIRMWARE / "src" / name for name in _SPOTTER), TEMPLATE / "src" / "kws.c"]
    texts = {path.name: path.read_text().replace('"../nn/', '"') for path in paths}
    made = render(source)
    texts |= {name: made[name].decode() for name in _GENERATED}
    return {name: (_OPTIMIZED + text if name.endswith(".c") else text).encode() for name, text in sorted(texts.items())}


def _properties(name: str, spec: KwsSpec) -> str:
    """library.properties; every field that the specification wants."""
    words = ", ".join(" ".join(word.split()) for word in spec.words)
    fields = {
        "name": name,
        "version": VERSION,
        "author": "the keyword spotter's converter",
        "maintainer": "the keyword spotter's converter",
        "sentence": f"Hears {words} on the board itself.",
        "paragraph": "Audio of 16 kHz mono in, words out: kws_init, kws_push, kws_poll; no connection needed.",
        "category": "Signal Input/Output",
        "url": "https://docs.arduino.cc/hardware/nano-33-ble-sense",
        "architectures": "mbed_nano",
        "includes": f"{name}.h",
    }
    return "".join(f"{key}={value}\n" for key, value in fields.items())


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip of the files in this order; equal files give equal bytes, whatever the day and the machine."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, _ARCHIVED)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, also when made elsewhere
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return out.getvalue()


def write_library(source: Source | TflmOnly, out: Path) -> dict[str, bytes]:
    """Writes the zip whole or not at all and returns its files; raises ConvertError, WriteError."""
    if out.suffix != ".zip":
        raise ConvertError(f"{out}: the Arduino IDE adds libraries from a .zip; let the name end in .zip")
    files = library_files(source)
    write_atomic(out, zipped(files))
    return files
