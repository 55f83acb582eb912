"""The first equivalence check: our C front end equals TFLM's micro front end on continuous streams, value for
value."""

from __future__ import annotations

import ctypes
import subprocess
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from frontend.signals import RATE, golden_pcm, odd_chunks, signals, whole

from converter.arrays import Int8, Int16, Uint16
from converter.audio.frontend import Engine, MicroFrontend, WheelEngine, load_wheel, pin_tables, quantize_features
from converter.audio.log1pf import log1pf
from converter.audio.native import SOURCES, NativeEngine, build
from converter.audio.tables import compute_tables, render
from converter.compiler import find_compiler
from converter.errors import ConvertError
from converter.spec import FeatureSpec

SPEC = FeatureSpec()
HERE = Path(__file__).resolve().parents[1]
GOLDEN = HERE / "golden" / "frontend.npz"
OTHER_SPECS = {
    "radix 2 first, 10 ms step": FeatureSpec(window_ms=40, step_ms=10, channels=32),
    "64 points": FeatureSpec(sample_rate_hz=8000, window_ms=15, step_ms=10, upper_hz=3800.0, channels=12),
    "1024 points": FeatureSpec(window_ms=128, step_ms=20),
    "8 kHz": FeatureSpec(sample_rate_hz=8000, upper_hz=3800.0, channels=24),
    "channels without a bin": FeatureSpec(window_ms=25, step_ms=10, channels=80),
    "no overlap, other noise and gain": FeatureSpec(
        window_ms=30,
        step_ms=30,
        channels=17,
        lower_hz=0.0,
        even_smoothing=0.1,
        odd_smoothing=0.3,
        min_signal_remaining=0.2,
        pcan_strength=0.5,
        pcan_offset=10.0,
        log_scale_shift=5,
        smoothing_bits=8,
    ),
}
PATHS = ("-DFRONTEND_SIMD=0", "-DFRONTEND_SIMD=1")  # portable, and the DSP instructions in C
needs_cc = pytest.mark.skipif(find_compiler() is None, reason="no C compiler on this machine")


@pytest.fixture(scope="session")
def wheel() -> ctypes.CDLL:
    library = load_wheel()
    if library is None:
        pytest.skip("no oracle: pymicro-features has no wheel for this platform")
    return library


@pytest.fixture(scope="session", params=PATHS)
def native_library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_compiler() is None:
        pytest.skip("no C compiler on this machine")
    return build(SPEC, tmp_path_factory.mktemp("frontend") / "frontend.so", ("-shared", "-fPIC", request.param))


def differences(one: Engine, other: Engine, pcm: Int16) -> int:
    raw, expected = one.process(pcm), other.process(pcm)
    assert raw.shape == expected.shape and len(raw) > 0
    return int((raw != expected).sum())


def test_tables_equal_those_inside_the_oracle(wheel: ctypes.CDLL) -> None:
    libm_log1pf = ctypes.CDLL(None).log1pf
    libm_log1pf.restype, libm_log1pf.argtypes = ctypes.c_float, [ctypes.c_float]
    hertz = np.arange(8000, dtype=np.float32) / np.float32(700)
    if any(np.float32(libm_log1pf(x)) != log1pf(x) for x in hertz):
        pytest.skip(
            "no comparable oracle: this machine's C library has another log1pf, so the wheel's tables differ by design"
        )
    for spec in (SPEC, *OTHER_SPECS.values()):
        assert pin_tables(WheelEngine(spec, wheel, pinned=False).state, compute_tables(spec)) == 0
    broken = WheelEngine(SPEC, wheel, pinned=False)
    broken.state.filterbank.weights[broken.state.filterbank.weight_starts[30] + 2] += 1
    broken.state.window.coefficients[7] -= 1
    assert pin_tables(broken.state, compute_tables(SPEC)) == 2


def test_fft_and_log_tables_equal_those_inside_the_oracle(wheel: ctypes.CDLL) -> None:
    tables, engine = compute_tables(SPEC), WheelEngine(SPEC, wheel)
    state = engine.state  # freed with its engine
    scratch = ctypes.string_at(state.fft.scratch, state.fft.scratch_size)
    # Its layout: three pointers; size, direction, 64 factors (int); 256 twiddles; 256 points of scratch; 128 twiddles
    # of the real split.
    circle = np.frombuffer(scratch, np.int16, 512, 24 + 4 * 66).reshape(256, 2)
    split = np.frombuffer(scratch, np.int16, 256, 24 + 4 * 66 + 4 * 512).reshape(128, 2)
    assert split.tolist() == [list(pair) for pair in tables.fft_split]
    used = [times * (64 // span) * k for span in (1, 4, 16, 64) for k in range(span) for times in (1, 2, 3)]
    assert circle[used].tolist() == [list(pair) for pair in tables.fft_twiddles]
    assert list((ctypes.c_uint16 * 129).in_dll(wheel, "kLogLut")) == list(tables.log)
    noise = state.noise
    assert (noise.even_smoothing, noise.odd_smoothing, noise.min_signal_remaining) == (
        *tables.smoothing,
        tables.min_signal_remaining,
    )
    assert (state.filterbank.start_index, state.pcan.snr_shift) == (tables.first_bin, tables.snr_shift)


@pytest.mark.parametrize(("name", "pcm"), list(signals()), ids=lambda value: value if isinstance(value, str) else "")
def test_c_equals_the_oracle_on_generated_streams(
    wheel: ctypes.CDLL, native_library: Path, name: str, pcm: Int16
) -> None:
    assert differences(NativeEngine(SPEC, native_library), WheelEngine(SPEC, wheel), pcm) == 0, name


@needs_cc
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", OTHER_SPECS)
def test_c_equals_the_oracle_at_other_settings(wheel: ctypes.CDLL, tmp_path: Path, name: str, path: str) -> None:
    spec = OTHER_SPECS[name]
    library = build(spec, tmp_path / "frontend.so", ("-shared", "-fPIC", path))
    native, oracle = NativeEngine(spec, library), WheelEngine(spec, wheel)
    for _, pcm in signals(seconds=1.0, seed=3):
        assert differences(native, oracle, pcm) == 0, name


def test_c_equals_the_oracle_on_ten_minutes_of_recordings(
    wheel: ctypes.CDLL, native_library: Path, speech_commands: Path
) -> None:
    soundfile = pytest.importorskip("soundfile")
    words = [sorted(folder.glob("*.*"))[:60] for folder in sorted(speech_commands.iterdir()) if folder.is_dir()]
    native, oracle, samples, wrong = NativeEngine(SPEC, native_library), WheelEngine(SPEC, wheel), 0, 0
    for file in (file for files in words for file in files if file.suffix in (".flac", ".wav")):
        pcm = soundfile.read(file, dtype="int16")[0]
        samples += len(pcm)
        wrong += differences(native, oracle, pcm)  # one stream: neither is ever reset
    assert samples >= 600 * RATE, "the folder holds less than ten minutes"
    assert wrong == 0


def test_later_stages_equal_the_oracles_on_any_32_bit_values(wheel: ctypes.CDLL, native_library: Path) -> None:
    ours, engine, rng = ctypes.CDLL(str(native_library)), WheelEngine(SPEC, wheel), np.random.default_rng(5)
    for _ in range(300):
        values = (rng.integers(0, 2**32, 80, dtype=np.uint64) >> rng.integers(0, 33, 80).astype(np.uint64)).astype(
            np.uint32
        )
        signal, noise, raw = values[:40].copy(), values[40:].copy(), np.empty(40, np.uint16)
        expected = signal.copy()
        ctypes.memmove(engine.state.noise.estimate, noise.ctypes.data, 160)
        wheel.NoiseReductionApply(ctypes.byref(engine.state.noise), ctypes.c_void_p(expected.ctypes.data))
        ours.frontend_denoise(ctypes.c_void_p(noise.ctypes.data), ctypes.c_void_p(signal.ctypes.data))
        assert signal.tolist() == expected.tolist()
        assert noise.tolist() == np.ctypeslib.as_array(engine.state.noise.estimate, (40,)).tolist()
        wheel.PcanGainControlApply(ctypes.byref(engine.state.pcan), ctypes.c_void_p(expected.ctypes.data))
        wheel.LogScaleApply(ctypes.byref(engine.state.log), ctypes.c_void_p(expected.ctypes.data), 40, 3)
        ours.frontend_gain_log(*(ctypes.c_void_p(array.ctypes.data) for array in (noise, signal, raw)))
        assert raw.tolist() == expected.view(np.uint16)[:40].tolist()


@pytest.fixture(scope="session", params=PATHS)
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler, folder = find_compiler(), tmp_path_factory.mktemp("probe")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    (folder / "frontend_tables.h").write_text(render(SPEC))
    command = [*compiler, "-std=gnu11", "-O2", "-shared", "-fPIC", request.param, f"-I{folder}", f"-I{SOURCES}"]
    subprocess.run(
        [*command, "-o", str(folder / "probe.so"), str(HERE / "support" / "frontend" / "probe.c")], check=True
    )
    return ctypes.CDLL(str(folder / "probe.so"))


def wrapping_windows() -> Iterator[Int16]:
    """480 samples each; most make sums leave 16 bits inside the transform, which a signal behind a window hardly
    does."""
    rng, points = np.random.default_rng(9), np.arange(240)
    extremes = np.array([-32768, -32767, -1, 0, 32767], np.int16)
    for _ in range(1200):
        yield rng.integers(-32768, 32768, 480).astype(np.int16)
        yield rng.choice(extremes, 480)
        for turns in (
            rng.integers(256),
            32 * rng.integers(8),
        ):  # a rotating pointer stretched to the edge of the 16 bit square
            angle = 2 * np.pi * (turns * points / 256 + rng.integers(8) / 8)
            pairs = np.stack([np.cos(angle), np.sin(angle)], axis=1)
            yield whole(
                (pairs / np.abs(pairs).max(axis=1, keepdims=True) * 32768 * rng.choice([1.0, 0.9, 0.75])).ravel()
            )


def test_transform_equals_the_oracles_on_any_16_bit_values(wheel: ctypes.CDLL, probe: ctypes.CDLL) -> None:
    engine, found, expected = WheelEngine(SPEC, wheel), np.empty(256, np.int32), np.empty(257, np.int32)
    bank, first = engine.state.filterbank, compute_tables(SPEC).first_bin
    last = first + len(compute_tables(SPEC).weights)
    for samples in wrapping_windows():
        wheel.FftCompute(ctypes.byref(engine.state.fft), ctypes.c_void_p(samples.ctypes.data), 0)
        wheel.FilterbankConvertFftComplexToEnergy(
            ctypes.byref(bank), engine.state.fft.output, ctypes.c_void_p(expected.ctypes.data)
        )
        probe.probe_energies(ctypes.c_void_p(samples.ctypes.data), ctypes.c_void_p(found.ctypes.data))
        assert np.array_equal(found[first:last], expected[first:last])


def test_square_root_equals_the_oracles(wheel: ctypes.CDLL, probe: ctypes.CDLL) -> None:
    rng = np.random.default_rng(6)
    roots = [
        *range(70),
        *(2**bits + near for bits in range(6, 33) for near in (-2, -1, 0, 1)),
        *rng.integers(0, 2**32, 4000).tolist(),
    ]
    squares = [root * root + near for root in roots for near in (-1, 0, 1, root, root + 1)]
    edges = [0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1]
    anything = (rng.integers(0, 2**64, 20000, dtype=np.uint64) >> rng.integers(0, 64, 20000, dtype=np.uint64)).tolist()
    values = np.array([value for value in (*edges, *squares, *anything) if 0 <= value < 2**64], np.uint64)
    values = np.resize(values, (len(values) // 40 + 1) * 40)
    found = np.empty(len(values), np.uint32)
    probe.probe_root(ctypes.c_void_p(values.ctypes.data), ctypes.c_void_p(found.ctypes.data), len(values))
    engine = WheelEngine(SPEC, wheel)
    wheel.FilterbankSqrt.restype = ctypes.POINTER(ctypes.c_uint32)
    expected = []
    for start in range(0, len(values), 40):
        chunk = values[start : start + 40]
        ctypes.memmove(ctypes.addressof(engine.state.filterbank.work.contents) + 8, chunk.ctypes.data, 320)
        expected.append(
            np.ctypeslib.as_array(wheel.FilterbankSqrt(ctypes.byref(engine.state.filterbank), 0), (40,)).copy()
        )
    assert (found != np.concatenate(expected)).sum() == 0


def test_chunks_of_any_size_give_the_same_frames(native_library: Path) -> None:
    pcm = golden_pcm(2 * RATE)
    for engine in (MicroFrontend(SPEC)._engine, NativeEngine(SPEC, native_library)):
        whole_stream = engine.process(pcm)
        engine.reset()
        pieces = np.concatenate([engine.process(piece) for piece in odd_chunks(pcm)])
        assert whole_stream.shape == (99, 40) and pieces.tolist() == whole_stream.tolist()


def test_golden_values_on_machines_without_the_oracle() -> None:
    golden = np.load(GOLDEN)
    pcm = golden_pcm()
    assert zlib.crc32(pcm.astype("<i2").tobytes()) == int(golden["pcm_crc32"]), "the signal itself differs"
    raw = MicroFrontend(SPEC).process(pcm)
    assert raw.tolist() == golden["raw"].tolist()
    assert quantize_features(raw).tolist() == golden["features"].tolist()


def test_c_golden_values(native_library: Path) -> None:
    assert NativeEngine(SPEC, native_library).process(golden_pcm()).tolist() == np.load(GOLDEN)["raw"].tolist()


def test_int8_rule_of_c_and_python_for_every_raw_value(native_library: Path) -> None:
    raw = np.resize(np.arange(65536), 65560).astype(np.uint16)
    found = np.empty(len(raw), np.int8)
    library = ctypes.CDLL(str(native_library))
    for start in range(0, len(raw), 40):
        library.frontend_quantize(
            ctypes.c_void_p(raw.ctypes.data + 2 * start), ctypes.c_void_p(found.ctypes.data + start)
        )
    by_hand = [min(127, max(-128, (int(value) * 256 + 333) // 666 - 128)) for value in raw]
    assert found.tolist() == by_hand == quantize_features(raw).tolist()


@pytest.fixture(scope="session")
def long_stream() -> Int16:
    """Every generated signal and the golden one, one after the other."""
    return np.concatenate([*(pcm for _, pcm in signals(seconds=1.5, seed=7)), golden_pcm()])


def raw_and_features(output: bytes, frames: int) -> tuple[Uint16, Int8]:
    assert len(output) == frames * 40 * 3
    return np.frombuffer(output, np.uint16, frames * 40).reshape(-1, 40), np.frombuffer(
        output, np.int8, offset=frames * 80
    ).reshape(-1, 40)


@needs_cc
@pytest.mark.parametrize("path", PATHS)
def test_c_under_sanitizers(tmp_path: Path, long_stream: Int16, path: str) -> None:
    flags = (path, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    try:
        program = build(SPEC, tmp_path / "stream", flags, (HERE / "support" / "frontend/stream_main.c",))
    except ConvertError as error:
        pytest.skip(f"no sanitizers in this machine's C compiler: {error}")
    long_stream.tofile(tmp_path / "pcm.bin")
    done = subprocess.run([program, "pcm.bin", "raw.bin"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    expected = MicroFrontend(SPEC).process(long_stream)
    raw, features = raw_and_features((tmp_path / "raw.bin").read_bytes(), len(expected))
    assert (raw != expected).sum() == 0 and (features != quantize_features(expected)).sum() == 0


@needs_cc
def test_c_compiles_without_warnings(tmp_path: Path) -> None:
    warnings = ("-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror", "-shared", "-fPIC")
    for spec, path in product((SPEC, *OTHER_SPECS.values()), PATHS):
        build(spec, tmp_path / "frontend.so", (*warnings, path))


def test_tables_header_is_reproducible_and_integer_only() -> None:
    compute_tables.cache_clear()
    text = render(SPEC)
    assert text == render(FeatureSpec()) and "." not in text.split("\n", 1)[1].replace(".h>", "")
    assert text.startswith("// Made by `python -m converter convert`")
    assert text != render(FeatureSpec(channels=32))


@pytest.mark.parametrize(
    "wrong",
    [
        FeatureSpec(upper_hz=8000.0),
        FeatureSpec(lower_hz=7600.0),
        FeatureSpec(step_ms=40),
        FeatureSpec(window_ms=1, step_ms=1),
        FeatureSpec(window_ms=600, step_ms=20),
        FeatureSpec(sample_rate_hz=16500, window_ms=34),
        FeatureSpec(pcan_gain_bits=10),
        FeatureSpec(smoothing_bits=0),
    ],
)
def test_settings_that_cannot_be_built_are_refused_in_one_sentence(wrong: FeatureSpec) -> None:
    with pytest.raises(ConvertError) as caught:
        MicroFrontend(wrong)
    assert "\n" not in str(caught.value) and "got" in str(caught.value)


def test_without_the_wheel_our_c_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.audio.frontend.load_wheel", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if find_compiler() is not None:
        assert MicroFrontend().process(golden_pcm()).tolist() == np.load(GOLDEN)["raw"].tolist()
        assert len(list((tmp_path / "cache" / "nano33-kws").iterdir())) == 1
        assert isinstance(MicroFrontend()._engine, NativeEngine)
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(ConvertError, match="must be writable"):
            MicroFrontend()
    monkeypatch.setattr("converter.audio.frontend.find_compiler", lambda: None)
    with pytest.raises(ConvertError, match=r"needs the package pymicro-features==2\.0\.2 or a C compiler"):
        MicroFrontend()


@pytest.mark.parametrize("pcm", [np.zeros(480), np.zeros((2, 480), np.int16), np.zeros(480, np.int32), "text"])
def test_pcm_of_another_type_is_refused(pcm: npt.ArrayLike) -> None:
    with pytest.raises(ConvertError, match="PCM must be int16"):
        MicroFrontend().process(pcm)


def test_reset_forgets_everything() -> None:
    front_end, loud = MicroFrontend(), whole(np.random.default_rng(8).normal(size=RATE) * 9000)
    first = front_end.process(loud)
    second = front_end.process(loud)
    front_end.reset()
    assert front_end.process(loud).tolist() == first.tolist() != second.tolist()
