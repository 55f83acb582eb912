"""The front end's constants, computed from a FeatureSpec as TFLM computes them, and the C header frontend_tables.h with
them in flash.

Every step is float32 as in TFLM's C. Its cosf and powf are double precision rounded once here, its log1pf is
converter.log1pf, so that the tables are the same on every machine. The tests compare all of them with the tables inside
the running oracle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from converter.audio.log1pf import log1pf
from converter.errors import ConvertError
from converter.spec import FeatureSpec

_F = np.float32
_WINDOW_ONE, _WEIGHT_ONE, _NOISE_ONE = 1 << 12, 1 << 12, 1 << 14
_WEIGHT_BITS, _SNR_BITS, _LOG_SEGMENTS = 12, 12, 128
_GAIN_INTERVALS = 33  # one per bit length of a uint32, 0 included


@dataclass(frozen=True)
class FrontendTables:
    """Integers only. fft_points is the length of the complex transform, half the real one."""

    window: tuple[int, ...]  # window_samples coefficients, 4096 is 1
    fft_points: int
    fft_order: tuple[int, ...]  # where input pair i goes before the first stage
    fft_radix2: bool  # the first stage is of radix 2, all others of radix 4
    fft_twiddles: tuple[tuple[int, int], ...]  # in the order of use: per radix-4 stage, per k: w^k, w^2k, w^3k
    fft_split: tuple[tuple[int, int], ...]  # twiddles of bins 1 .. fft_points / 2 of the real transform
    first_bin: int
    widths: tuple[int, ...]  # bins of triangle 0 .. channels
    weights: tuple[tuple[int, int], ...]  # per bin from first_bin: share of its triangle's channel, share of the next
    smoothing: tuple[int, int]  # even, odd channels; 16384 is 1
    min_signal_remaining: int
    gain: tuple[tuple[int, int, int], ...]  # per bit length of the noise estimate: value, slope, curvature
    snr_shift: int
    correction_bits: int
    log: tuple[int, ...]  # log2(1 + i / 128) - i / 128 in 1 / 65536
    root: tuple[int, ...]  # first guess of the square root of a value in [(64 + i) * 2^24, (65 + i) * 2^24)


@lru_cache(maxsize=16)
def compute_tables(spec: FeatureSpec) -> FrontendTables:
    """All tables of a spec; raises ConvertError where the fixed-point front end cannot do what the spec asks."""
    real_points = 1 << max(0, spec.window_samples - 1).bit_length()
    correction_bits = real_points.bit_length() - 1 - _WEIGHT_BITS // 2
    snr_shift = spec.pcan_gain_bits - correction_bits - _SNR_BITS
    _check(spec, real_points, correction_bits, snr_shift)
    points = real_points // 2
    first_bin, widths, weights = _filterbank(spec, points)
    noise = [
        int(_F(_F(share) * _F(_NOISE_ONE)))
        for share in (spec.even_smoothing, spec.odd_smoothing, spec.min_signal_remaining)
    ]
    radix2 = (points.bit_length() - 1) % 2 == 1
    return FrontendTables(
        window=_window(spec.window_samples),
        fft_points=points,
        fft_order=_fft_order(points),
        fft_radix2=radix2,
        fft_twiddles=_fft_twiddles(points, radix2),
        fft_split=_fft_split(points),
        first_bin=first_bin,
        widths=widths,
        weights=weights,
        smoothing=(noise[0], noise[1]),
        min_signal_remaining=noise[2],
        gain=_gain(spec, spec.smoothing_bits - correction_bits),
        snr_shift=snr_shift,
        correction_bits=correction_bits,
        log=_log(),
        root=_root(),
    )


def _check(spec: FeatureSpec, real_points: int, correction_bits: int, snr_shift: int) -> None:
    where = "frontend_tables"
    if not 64 <= real_points <= 4096:
        raise ConvertError(
            f"{where}: a transform has 64..4096 points, got a window of {spec.window_samples} samples; change window_ms"
        )
    if spec.window_samples % 2:
        raise ConvertError(
            f"{where}: a window must hold an even number of samples, got {spec.window_samples}; change window_ms"
        )
    if spec.step_samples > spec.window_samples:
        raise ConvertError(
            f"{where}: step_ms must not exceed window_ms, got {spec.step_ms} > {spec.window_ms}; shorten the step"
        )
    if not 0 <= spec.lower_hz < spec.upper_hz or spec.upper_hz >= spec.sample_rate_hz / 2:
        raise ConvertError(
            f"{where}: the band must lie within 0..{spec.sample_rate_hz // 2} Hz, got {spec.lower_hz}..{spec.upper_hz}"
        )
    if not correction_bits <= spec.smoothing_bits <= 31 - correction_bits or snr_shift < 0:
        bits = f"smoothing_bits {spec.smoothing_bits} and pcan_gain_bits {spec.pcan_gain_bits}"
        raise ConvertError(f"{where}: the gain must fit its fixed point, got {bits}; use 10 and 21")


def _window(size: int) -> tuple[int, ...]:
    step = _F(_F(_F(math.pi) * _F(2)) / _F(size))

    def coefficient(index: int) -> int:
        cosine = _F(math.cos(float(_F(step * _F(_F(index) + _F(0.5))))))
        value = _F(_F(0.5) - _F(_F(0.5) * cosine))
        return math.floor(_F(_F(value * _F(_WINDOW_ONE)) + _F(0.5)))

    return tuple(coefficient(index) for index in range(size))


def _radices(points: int) -> list[int]:
    """Outermost first: as many fours as go, then one two."""
    radices = []
    while points > 1:
        radices.append(4 if points % 4 == 0 else 2)
        points //= radices[-1]
    return radices


def _fft_order(points: int) -> tuple[int, ...]:
    order = []
    for index in range(points):
        position, block = 0, points
        for radix in _radices(points):
            block //= radix
            position += index % radix * block
            index //= radix
        order.append(position)
    return tuple(order)


def _fixed_phase(phase: float) -> tuple[int, int]:
    return math.floor(0.5 + 32767 * math.cos(phase)), math.floor(0.5 + 32767 * math.sin(phase))


def _fft_twiddles(points: int, radix2: bool) -> tuple[tuple[int, int], ...]:
    circle = [_fixed_phase(-2 * math.pi * index / points) for index in range(points)]
    found, span = [], 2 if radix2 else 1
    while span < points:
        stride = points // (4 * span)
        found += [circle[times * stride * k] for k in range(span) for times in (1, 2, 3)]
        span *= 4
    return tuple(found)


def _fft_split(points: int) -> tuple[tuple[int, int], ...]:
    return tuple(_fixed_phase(-math.pi * ((index + 1) / points + 0.5)) for index in range(points // 2))


def _mel(hz: np.float32) -> np.float32:
    return _F(_F(1127) * log1pf(_F(hz / _F(700))))


def _filterbank(spec: FeatureSpec, points: int) -> tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]]:
    """First bin, bins per triangle and the two weights of each bin; triangle 0 lies below channel 0 and only its second
    weights count."""
    low, high = _mel(_F(spec.lower_hz)), _mel(_F(spec.upper_hz))
    spacing = _F(_F(high - low) / _F(spec.channels + 1))
    centers = [_F(low + _F(spacing * _F(index + 1))) for index in range(spec.channels + 1)]
    bin_hz = _F(_F(_F(0.5) * _F(spec.sample_rate_hz)) / _F(points))
    first_bin = int(_F(_F(1.5) + _F(_F(spec.lower_hz) / bin_hz)))
    widths, weights, index = [], [], first_bin
    for channel, center in enumerate(centers):
        below, start = (centers[channel - 1] if channel else low), index
        while (mel := _mel(_F(_F(index) * bin_hz))) <= center:
            share = _F(_F(center - mel) / _F(center - below))
            weights.append((_fixed_weight(share), _fixed_weight(_F(_F(1) - share))))
            index += 1
        widths.append(index - start)
    if index > points:
        raise ConvertError(
            f"frontend_tables: the band must end below the last bin, got {spec.upper_hz} Hz; lower upper_hz"
        )
    return first_bin, tuple(widths), tuple(weights)


def _fixed_weight(share: np.float32) -> int:
    return math.floor(_F(_F(share * _F(_WEIGHT_ONE)) + _F(0.5)))


def _gain(spec: FeatureSpec, input_bits: int) -> tuple[tuple[int, int, int], ...]:
    def value(noise: int) -> int:
        base = _F(_F(_F(noise) / _F(1 << input_bits)) + _F(spec.pcan_offset))
        gain = _F(_F(1 << spec.pcan_gain_bits) * _F(math.pow(float(base), -float(_F(spec.pcan_strength)))))
        return 32767 if gain > 32767 else int(_F(gain + _F(0.5)))

    table = [(value(0), 0, 0), (value(1), 0, 0)]
    for bits in range(2, _GAIN_INTERVALS):
        start = 1 << (bits - 1)
        end = 2 * start if bits < 32 else 2 * start - 1
        first = value(start)
        half, whole = value(start + start // 2) - first, value(end) - first
        slope = 4 * half - whole
        table.append((first, _int16(slope), _int16(whole - slope)))
    return tuple(table)


def _int16(value: int) -> int:
    return (value + 32768) % 65536 - 32768


def _log() -> tuple[int, ...]:
    return tuple(
        round(65536 * (math.log2(1 + i / _LOG_SEGMENTS) - i / _LOG_SEGMENTS)) for i in range(_LOG_SEGMENTS + 1)
    )


def _root() -> tuple[int, ...]:
    """Halfway between the roots of both ends, in integers (no machine's rounding)."""
    return tuple((math.isqrt(top << 24) + math.isqrt((top + 1) << 24)) // 2 for top in range(64, 256))


def render(spec: FeatureSpec) -> str:
    """frontend_tables.h: constants of firmware/lib/frontend, equal bytes for equal specs."""
    tables = compute_tables(spec)
    macros = {
        "WINDOW_SAMPLES": spec.window_samples,
        "STEP_SAMPLES": spec.step_samples,
        "CHANNELS": spec.channels,
        "FFT_POINTS": tables.fft_points,
        "FFT_RADIX2": int(tables.fft_radix2),
        "FIRST_BIN": tables.first_bin,
        "BINS": len(tables.weights),
        "SMOOTHING_BITS": spec.smoothing_bits,
        "SMOOTHING_EVEN": tables.smoothing[0],
        "SMOOTHING_ODD": tables.smoothing[1],
        "MIN_SIGNAL_REMAINING": tables.min_signal_remaining,
        "SNR_SHIFT": tables.snr_shift,
        "CORRECTION_BITS": tables.correction_bits,
        "LOG_SHIFT": spec.log_scale_shift,
        "RAW_DIVISOR": spec.raw_divisor,
        "ZERO_POINT": spec.zero_point,
    }
    index_type = "uint8_t" if tables.fft_points <= 256 else "uint16_t"
    arrays = [
        ("int16_t", "window[FRONTEND_WINDOW_SAMPLES]", tables.window),
        (index_type, "fft_order[FRONTEND_FFT_POINTS]", tables.fft_order),
        ("int16_t", f"fft_twiddles[{2 * len(tables.fft_twiddles)}]", _flat(tables.fft_twiddles)),
        ("int16_t", "fft_split[FRONTEND_FFT_POINTS]", _flat(tables.fft_split)),
        ("uint8_t" if max(tables.widths) < 256 else "uint16_t", "widths[FRONTEND_CHANNELS + 1]", tables.widths),
        ("int16_t", "weights[2 * FRONTEND_BINS]", _flat(tables.weights)),
        ("int16_t", f"gain[3 * {_GAIN_INTERVALS}]", _flat(tables.gain)),
        ("uint16_t", f"log[{_LOG_SEGMENTS + 1}]", tables.log),
        ("uint16_t", f"root[{len(tables.root)}]", tables.root),
    ]
    lines = [
        "// Made by `python -m converter convert` from the feature settings of converter/spec.py; do not edit.",
        "#ifndef FRONTEND_TABLES_H",
        "#define FRONTEND_TABLES_H",
        "",
        "#include <stdint.h>",
        "",
    ]
    lines += [f"#define FRONTEND_{name} {value if value >= 0 else f'({value})'}" for name, value in macros.items()]
    for c_type, declaration, values in arrays:
        lines += ["", f"static const {c_type} frontend_{declaration} = {{", *_rows(values), "};"]
    return "\n".join([*lines, "", "#endif", ""])


def _flat(rows: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    return tuple(value for row in rows for value in row)


def _rows(values: tuple[int, ...]) -> list[str]:
    return ["    " + ", ".join(map(str, values[start : start + 16])) + "," for start in range(0, len(values), 16)]
