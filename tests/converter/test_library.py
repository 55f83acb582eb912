"""The library's zip: its layout, its plain C API against the host, and its builds by CMake."""

from __future__ import annotations

import ctypes
import io
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sketch_on_host import tinyconv
from spoken import recording
from voice import spoken

from converter import convert, library
from converter.arrays import Pcm
from converter.errors import ConvertError
from converter.spec import KwsSpec
from converter.tflite.tflm_only import TflmOnly
from host.link.detector import Detector
from host.link.expected import Listener, Model, load_model
from host.link.protocol import Identity

ROOT = Path(__file__).resolve().parents[2]
SPOTTER = ROOT / "reference" / "spotter"
STRICT = "-Wall -Wextra -Werror"
CORES = {"cortex-m4": "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=softfp", "cortex-m33": "-mcpu=cortex-m33"}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return library.library_files(convert.load(SPOTTER))


@pytest.fixture(scope="module")
def unpacked(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    with zipfile.ZipFile(io.BytesIO(library.zipped(files))) as archive:
        archive.extractall(folder)
    return folder / "kws_yes_stop"


def cmake(source: Path, build: Path, *options: str, target: str = "all") -> Path:
    if shutil.which("cmake") is None or shutil.which("gcc") is None:
        pytest.skip("no cmake and gcc to build the library with")
    for command in (
        ["cmake", "-S", str(source), "-B", str(build), f"-DCMAKE_C_FLAGS={STRICT}", *options],
        ["cmake", "--build", str(build), "--target", target],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return build


@pytest.fixture(scope="module")
def built(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cmake(unpacked, tmp_path_factory.mktemp("host"), "-DBUILD_SHARED_LIBS=ON")


def test_layout_is_the_specification_s(files: dict[str, bytes]) -> None:
    """Library specification 1.5, revision 2.2: properties, names, folders."""
    assert {path.split("/")[0] for path in files} == {"kws_yes_stop"}
    inside = {path.partition("/")[2]: data for path, data in files.items()}
    pairs = [line.split("=", 1) for line in inside["library.properties"].decode().splitlines()]
    properties = {key: value for key, value in pairs}
    wanted = ["name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"]
    assert len(properties) == len(pairs) and all(properties[key] for key in wanted)
    assert "depends" not in properties
    assert properties["name"] == "kws_yes_stop" and len(properties["name"]) <= 63
    assert re.fullmatch(r"\d+\.\d+\.\d+", properties["version"])
    assert properties["category"] == "Signal Input/Output" and properties["architectures"] == "mbed_nano"
    assert f"src/{properties['includes']}" in inside
    for path in inside:
        assert path.isascii() and not path.startswith(("/", ".")) and ".." not in path
    assert {path.split("/")[0] for path in inside} <= {
        *("library.properties", "README.md", "LICENSE", "CMakeLists.txt"),
        *("src", "examples", "extras", "zephyr"),
    }
    sketches = {path for path in inside if path.startswith("examples/")}
    names = {"Listen", "OnKeyword", "Profile", "SerialPlotter", "Bluetooth"}
    assert sketches == {f"examples/{name}/{name}.ino" for name in names}


def test_includes_are_found_from_src_or_beside_and_none_is_arduino_s(files: dict[str, bytes]) -> None:
    sources = {path: data.decode() for path, data in files.items() if path.endswith((".c", ".h", ".ino"))}
    for path, text in sources.items():
        for kind, name in re.findall(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', text, re.M):
            folder = path.rpartition("/")[0]
            own = f"{folder}/{name}" in files or f"kws_yes_stop/src/{name}" in files
            where_arduino_is = path.endswith((".ino", "kws_microphone.h"))
            if kind == '"':
                assert own or name == "board.h", f"{path} includes {name}"  # board.h: only where __has_include finds it
            elif not own and not where_arduino_is:
                assert name in ("stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h"), (path, name)


def test_sources_are_the_firmware_s_own(files: dict[str, bytes]) -> None:
    for path, data in files.items():
        _, _, name = path.partition("src/spotter/")
        if name and name not in library._GENERATED and name != "kws.c":
            found = [*(ROOT / "firmware" / "lib").rglob(name), *(ROOT / "firmware" / "src").glob(name)]
            assert len(found) == 1
            text = found[0].read_text().replace('"../nn/', '"')
            assert data.decode().removeprefix(library._OPTIMIZED) == text


def test_equal_models_give_equal_bytes(files: dict[str, bytes], tmp_path: Path) -> None:
    library.write_library(convert.load(SPOTTER), tmp_path / "one.zip")
    assert (tmp_path / "one.zip").read_bytes() == library.zipped(files)
    with pytest.raises(ConvertError, match=r"let the name end in \.zip"):
        library.write_library(convert.load(SPOTTER), tmp_path / "one")


@pytest.mark.parametrize(
    "words", [["yes", "stop"], ["Guten Tag"], ["ключ"], ["3D"], [f"word{number:09}" for number in range(30)]]
)
def test_names_are_valid(words: list[str]) -> None:
    name = library.library_name(KwsSpec.of_words(words))
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) and not name.endswith("_") and "__" not in name


def test_models_that_do_not_listen_are_refused() -> None:
    with pytest.raises(ConvertError, match="has no words and features, so it cannot listen"):
        library.library_files(convert.Source(tinyconv(spec=None), "random"))
    only = TflmOnly.__new__(TflmOnly)
    object.__setattr__(only, "name", "other")
    object.__setattr__(only, "why", "LSTM is not compiled")
    with pytest.raises(ConvertError, match="TensorFlow Lite Micro only, because: LSTM is not compiled"):
        library.library_files(only)


class OnC:
    """kws.h of a shared library."""

    def __init__(self, built: Path) -> None:
        self.c = ctypes.CDLL(str(built / "libkws.so"))
        self.c.kws_word.restype, self.c.kws_score.restype = ctypes.c_char_p, ctypes.c_float
        self.c.kws_threshold.restype = ctypes.c_float
        self.c.kws_poll.restype = ctypes.c_bool
        self.c.kws_init()

    def hear(self, pcm: Pcm) -> list[tuple[str, float]]:
        block = np.ascontiguousarray(pcm, np.int16)
        self.c.kws_push(block.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(block)))
        word, score, found = ctypes.c_char_p(), ctypes.c_float(), []
        while self.c.kws_poll(ctypes.byref(word), ctypes.byref(score)):
            assert word.value is not None
            found.append((word.value.decode(), score.value))
        return found

    def scores(self) -> list[float]:
        return [self.c.kws_score(ctypes.c_size_t(word)) for word in range(self.c.kws_words())]


def expected_by(model: Model) -> tuple[Listener, Detector]:
    assert model.detector and model.spec
    board = Identity("", "", "", "", "aot", "", 64_000_000, 1960, 4, 8, model.spec.labels, None, model.detector)
    return Listener(model, board), Detector(model.detector, len(model.spec.labels))


def shares(model: Model, sums: list[int]) -> list[float]:
    assert model.detector
    return [float(np.float32(value) / np.float32(model.detector.highest_sum)) for value in sums]


def speech() -> Pcm:
    said = spoken("yes", "stop", "seven", "yes", "stop")
    rest = np.random.default_rng(3).normal(0, 3000, 16_000)
    return np.concatenate([np.asarray(said, np.int16), rest.astype(np.int16), recording(4, [1, 2.5])])


@pytest.mark.parametrize("seed", [0, 1])
def test_words_and_scores_equal_the_host_s_whatever_the_chunks(built: Path, seed: int) -> None:
    """Every score behind every chunk, bit for bit; chunks of 1 to 1,001 samples."""
    model, c, pcm = load_model(SPOTTER), OnC(built), speech()
    listener, detector = expected_by(model)
    rng, at, heard = np.random.default_rng(seed), 0, 0
    while at < len(pcm):
        chunk = pcm[at : at + 2 * int(rng.integers(0, 501)) + 1]
        at += len(chunk)
        found = []
        for hop in listener.hear(chunk):
            label = detector.step(hop.scores)
            if label is not None and model.spec:
                found.append((model.spec.labels[label], shares(model, detector.sums)[label - 2]))
        assert c.hear(chunk) == found
        assert c.scores() == shares(model, detector.sums)
        heard += len(found)
    assert heard >= 4 and c.c.kws_dropped() == 0
    assert model.detector
    assert [c.c.kws_threshold(i) for i in range(2)] == shares(model, list(model.detector.thresholds))


def test_what_finds_the_ring_full_is_lost_and_counted(built: Path) -> None:
    pcm, c, small = speech(), OnC(built), OnC(built)
    assert c.c.kws_dropped() == 0
    big = np.ascontiguousarray(pcm[:20_000])
    c.c.kws_push(big.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(big)))
    assert c.c.kws_dropped() == 20_000 - 8192
    c.hear(pcm[:0])
    left = c.scores()
    small.c.kws_init()  # one spotter a program: this is the same one, begun anew
    assert small.c.kws_dropped() == 0 and small.scores() == [0.0, 0.0]
    small.hear(pcm[:8192])
    assert small.scores() == left
    assert c.c.kws_word(ctypes.c_size_t(2)) is None and c.c.kws_score(ctypes.c_size_t(2)) == 0


def test_program_without_a_board(built: Path) -> None:
    pcm = speech()
    done = [
        subprocess.run([str(built / "raw"), size], input=pcm.tobytes(), capture_output=True, check=True).stdout
        for size in ("320", "1", "4801")
    ]
    words = [[line.split()[1:] for line in out.decode().splitlines()] for out in done]
    assert words[0] == words[1] == words[2] and [word for word, _ in words[0]][:2] == ["yes", "stop"]


@pytest.mark.parametrize("core", CORES)
def test_links_for(core: str, unpacked: Path, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    options = (
        "-DCMAKE_SYSTEM_NAME=Generic",
        "-DCMAKE_C_COMPILER=arm-none-eabi-gcc",
        "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
        f"-DCMAKE_C_FLAGS={STRICT} -mthumb -Os -funsigned-char -ffunction-sections {CORES[core]}",
    )
    built = cmake(unpacked, tmp_path / "build", *options)
    program = tmp_path / "program.c"
    program.write_text(
        '#include "kws.h"\nint main(void) {\n    int16_t pcm[320] = {0};\n    const char *word;\n    float score;\n'
        "    kws_init();\n    kws_push(pcm, 320);\n    return kws_poll(&word, &score);\n}\n"
    )
    image = tmp_path / "program.elf"
    link = ["arm-none-eabi-gcc", "-mthumb", *CORES[core].split(), "--specs=nano.specs", "--specs=nosys.specs"]
    link += [f"-I{unpacked / 'src'}", str(program), str(built / "libkws.a"), "-Wl,--gc-sections"]
    done = subprocess.run([*link, "-o", str(image)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    symbols = subprocess.run(["arm-none-eabi-nm", str(image)], capture_output=True, text=True, check=True).stdout
    assert " T nn_dense_pairs\n" in symbols.replace(" t ", " T "), "the routines lie with the code, not in RAM"
    assert "engine_invoke_traced" not in symbols


def test_other_models_listen_too(tmp_path: Path) -> None:
    """A library of the TinyConv of reference/, which has another hop and no streams of rows."""
    model = load_model(ROOT / "reference")
    source = convert.load(ROOT / "reference")
    files = library.library_files(replace(source, name="tinyconv"))
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    c = OnC(cmake(tmp_path / "kws_yes_stop", tmp_path / "build", "-DBUILD_SHARED_LIBS=ON", target="kws"))
    listener, detector = expected_by(model)
    pcm = speech()
    for start in range(0, len(pcm), 777):
        hops = listener.hear(pcm[start : start + 777])
        labels = [detector.step(hop.scores) for hop in hops]
        assert len(c.hear(pcm[start : start + 777])) == sum(label is not None for label in labels)
        assert c.scores() == shares(model, detector.sums)
