"""The TFLM micro front end at the deployed settings: PCM in, uint16 channel values out. No torch.

The oracle is the C code inside the package pymicro-features, called by ctypes: that package's own Python class is
compiled for a 10 ms step with state per frame, so picking every second of its frames is wrong. Where the wheel is
missing, our own C front end (firmware/lib/frontend, proven equal) is compiled with the machine's C compiler and takes
its place.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.metadata
import importlib.util
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from converter.arrays import Int8, Int16, Uint16
from converter.audio.native import NativeEngine
from converter.audio.tables import FrontendTables, compute_tables
from converter.compiler import find_compiler
from converter.errors import ConvertError
from converter.spec import FeatureSpec

WHEEL, WHEEL_VERSION, WHEEL_MODULE = "pymicro-features", "2.0.2", "micro_features_cpp"


class _WindowConfig(ctypes.Structure):
    _fields_ = (("size_ms", ctypes.c_size_t), ("step_ms", ctypes.c_size_t))


class _FilterbankConfig(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_int),
        ("upper_hz", ctypes.c_float),
        ("lower_hz", ctypes.c_float),
        ("unused", ctypes.c_int),
    )


class _NoiseConfig(ctypes.Structure):
    _fields_ = (
        ("smoothing_bits", ctypes.c_int),
        ("even_smoothing", ctypes.c_float),
        ("odd_smoothing", ctypes.c_float),
        ("min_signal_remaining", ctypes.c_float),
    )


class _PcanConfig(ctypes.Structure):
    _fields_ = (
        ("enable", ctypes.c_int),
        ("strength", ctypes.c_float),
        ("offset", ctypes.c_float),
        ("gain_bits", ctypes.c_int),
    )


class _LogConfig(ctypes.Structure):
    _fields_ = (("enable", ctypes.c_int), ("scale_shift", ctypes.c_int))


class FrontendConfig(ctypes.Structure):
    """struct FrontendConfig of the wheel."""

    _fields_ = (
        ("window", _WindowConfig),
        ("filterbank", _FilterbankConfig),
        ("noise", _NoiseConfig),
        ("pcan", _PcanConfig),
        ("log", _LogConfig),
    )


_I16, _U32, _SIZE = ctypes.POINTER(ctypes.c_int16), ctypes.POINTER(ctypes.c_uint32), ctypes.c_size_t


class _WindowState(ctypes.Structure):
    _fields_ = (
        ("size", _SIZE),
        ("coefficients", _I16),
        ("step", _SIZE),
        ("input", _I16),
        ("input_used", _SIZE),
        ("output", _I16),
        ("max_abs_output", ctypes.c_int16),
    )


class _FftState(ctypes.Structure):
    _fields_ = (
        ("input", _I16),
        ("output", _I16),
        ("fft_size", _SIZE),
        ("input_size", _SIZE),
        ("scratch", ctypes.c_void_p),
        ("scratch_size", _SIZE),
    )


class _FilterbankState(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_int),
        ("start_index", ctypes.c_int),
        ("end_index", ctypes.c_int),
        ("frequency_starts", _I16),
        ("weight_starts", _I16),
        ("widths", _I16),
        ("weights", _I16),
        ("unweights", _I16),
        ("work", ctypes.POINTER(ctypes.c_uint64)),
    )


class _NoiseState(ctypes.Structure):
    _fields_ = (
        ("smoothing_bits", ctypes.c_int),
        ("even_smoothing", ctypes.c_uint16),
        ("odd_smoothing", ctypes.c_uint16),
        ("min_signal_remaining", ctypes.c_uint16),
        ("channels", ctypes.c_int),
        ("estimate", _U32),
    )


class _PcanState(ctypes.Structure):
    _fields_ = (
        ("enable", ctypes.c_int),
        ("noise_estimate", _U32),
        ("channels", ctypes.c_int),
        ("gain_lut", _I16),
        ("snr_shift", ctypes.c_int32),
    )


class FrontendState(ctypes.Structure):
    """struct FrontendState of the wheel; its tables are what converter.audio.tables computes in Python."""

    _fields_ = (
        ("window", _WindowState),
        ("fft", _FftState),
        ("filterbank", _FilterbankState),
        ("noise", _NoiseState),
        ("pcan", _PcanState),
        ("log", _LogConfig),
    )


class _Output(ctypes.Structure):
    _fields_ = (("values", ctypes.POINTER(ctypes.c_uint16)), ("size", ctypes.c_size_t))


class Engine(Protocol):
    """One running front end; process appends to what it keeps and returns every window that became full."""

    def reset(self) -> None:
        """Forget all audio, the noise estimate and the gain."""

    def process(self, pcm: Int16) -> Uint16:
        """int16 [samples] -> raw uint16 [windows that became full, channels]."""


@lru_cache(maxsize=1)
def load_wheel() -> ctypes.CDLL | None:
    """The wheel's extension with its C functions typed, or None where it is missing, of another version or does not
    export them."""
    try:
        if importlib.metadata.version(WHEEL) != WHEEL_VERSION:
            return None
        found = importlib.util.find_spec(WHEEL_MODULE)
        if found is None or found.origin is None:
            return None
        library = ctypes.CDLL(found.origin)
        library.FrontendPopulateState.argtypes = [
            ctypes.POINTER(FrontendConfig),
            ctypes.POINTER(FrontendState),
            ctypes.c_int,
        ]
        library.FrontendPopulateState.restype = ctypes.c_int
        library.FrontendProcessSamples.argtypes = [
            ctypes.POINTER(FrontendState),
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.POINTER(ctypes.c_size_t),
        ]
        library.FrontendProcessSamples.restype = _Output
        library.FrontendReset.argtypes = library.FrontendFreeStateContents.argtypes = [ctypes.POINTER(FrontendState)]
        library.FrontendReset.restype = library.FrontendFreeStateContents.restype = None
    except (importlib.metadata.PackageNotFoundError, ImportError, OSError, AttributeError):
        return None
    return library


def wheel_config(spec: FeatureSpec) -> FrontendConfig:
    """The FeatureSpec as the wheel's configuration."""
    return FrontendConfig(
        _WindowConfig(spec.window_ms, spec.step_ms),
        _FilterbankConfig(spec.channels, spec.upper_hz, spec.lower_hz, 0),
        _NoiseConfig(spec.smoothing_bits, spec.even_smoothing, spec.odd_smoothing, spec.min_signal_remaining),
        _PcanConfig(1, spec.pcan_strength, spec.pcan_offset, spec.pcan_gain_bits),
        _LogConfig(1, spec.log_scale_shift),
    )


def pin_tables(state: FrontendState, tables: FrontendTables) -> int:
    """Overwrite the state's window, mel weights and gains with `tables`; returns how many values that changed.

    The wheel computes them at run time with the math library of the machine, and log1pf differs between C libraries
    (two weights of the deployed features). Nothing changes on glibc 2.36 (measured); elsewhere this keeps features
    equal on every machine.
    """
    changed = _overwrite(state.window.coefficients, 0, tables.window)
    for bits, gain in enumerate(tables.gain):
        start = 4 * bits - 6 if bits >= 2 else bits
        changed += _overwrite(state.pcan.gain_lut, start, gain if bits >= 2 else gain[:1])
    first, used, bank = tables.first_bin, 0, state.filterbank
    for triangle, width in enumerate(tables.widths):
        padding = first - bank.frequency_starts[triangle]
        for side, target in enumerate((bank.weights, bank.unweights)):
            values = tuple(pair[side] for pair in tables.weights[used : used + width])
            changed += _overwrite(target, bank.weight_starts[triangle] + padding, values)
        first, used = first + width, used + width
    return changed


def _overwrite(target: Any, start: int, values: tuple[int, ...]) -> int:
    wrong = [(start + index, value) for index, value in enumerate(values) if target[start + index] != value]
    for index, value in wrong:
        target[index] = value
    return len(wrong)


class WheelEngine:
    """The oracle: TFLM's C code. Calls release the GIL; one object must stay in one thread at a time."""

    def __init__(self, spec: FeatureSpec, library: ctypes.CDLL, pinned: bool = True) -> None:
        self.spec, self.library, self.state = spec, library, FrontendState()
        self._read = ctypes.c_size_t()
        tables = compute_tables(spec)  # first: it refuses in one sentence what the C would only print or crash on
        if not library.FrontendPopulateState(
            ctypes.byref(wheel_config(spec)), ctypes.byref(self.state), spec.sample_rate_hz
        ):
            raise ConvertError(
                f"MicroFrontend: {WHEEL} must accept the settings, got {spec}; choose a band within the spectrum"
            )
        if pinned:
            pin_tables(self.state, tables)

    def __del__(self) -> None:
        if getattr(self, "state", None) is not None and self.state.window.size:
            self.library.FrontendFreeStateContents(ctypes.byref(self.state))

    def reset(self) -> None:
        """See Engine."""
        self.library.FrontendReset(ctypes.byref(self.state))

    def process(self, pcm: Int16) -> Uint16:
        """See Engine."""
        state, read = ctypes.byref(self.state), ctypes.byref(self._read)
        address, left, width = pcm.ctypes.data, len(pcm), 2 * self.spec.channels
        frames: list[bytes] = []
        while left:
            output = self.library.FrontendProcessSamples(state, address, left, read)
            address += 2 * self._read.value
            left -= self._read.value
            if output.size:
                frames.append(ctypes.string_at(output.values, width))
        return np.frombuffer(b"".join(frames), np.uint16).reshape(-1, self.spec.channels).copy()


def open_engine(spec: FeatureSpec) -> Engine:
    """The oracle where the wheel is installed, else our own C compiled here; raises ConvertError when neither can be
    had."""
    library = load_wheel()
    if library is not None:
        return WheelEngine(spec, library)
    if find_compiler() is None:
        raise ConvertError(
            f"MicroFrontend: needs the package {WHEEL}=={WHEEL_VERSION} or a C compiler, found neither; install "
            f"one of them"
        )
    return NativeEngine(spec)


class MicroFrontend:
    """A continuous front end: window w covers the samples [w * step_samples, w * step_samples + window_samples) since
    the reset.

    >>> front_end = MicroFrontend()
    >>> [front_end.process(np.zeros(n, np.int16)).shape for n in (479, 1, 640)]
    [(0, 40), (1, 40), (2, 40)]
    """

    def __init__(self, spec: FeatureSpec | None = None) -> None:
        self.spec = spec or FeatureSpec()
        self._engine = open_engine(self.spec)

    def reset(self) -> None:
        """Forget everything: samples kept, noise estimate and gain."""
        self._engine.reset()

    def process(self, pcm: npt.ArrayLike) -> Uint16:
        """Raw uint16 [windows that became full, channels]; chunks may have any length, the rest is kept for the next
        call."""
        samples: npt.NDArray[Any] = np.asarray(pcm)
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise ConvertError(
                f"MicroFrontend: PCM must be int16 of one dimension, got {samples.dtype} {list(samples.shape)}"
            )
        return self._engine.process(np.ascontiguousarray(samples))

    def features(self, pcm: npt.ArrayLike) -> Int8:
        """The same as int8, as the network is fed."""
        return quantize_features(self.process(pcm), self.spec)


def quantize_features(raw: npt.ArrayLike, spec: FeatureSpec | None = None) -> Int8:
    """int8 = clamp((raw * 256 + raw_divisor // 2) // raw_divisor + zero_point, -128, 127).

    >>> quantize_features([0, 1, 2, 3, 333, 665, 65535]).tolist()
    [-128, -128, -127, -127, 0, 127, 127]
    """
    spec = spec or FeatureSpec()
    scaled = (np.asarray(raw).astype(np.int32) * 256 + spec.raw_divisor // 2) // spec.raw_divisor + spec.zero_point
    return np.clip(scaled, -128, 127).astype(np.int8)
