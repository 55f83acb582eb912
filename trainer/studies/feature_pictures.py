"""Pictures of recordings, one column each: wave, spectrum, spectrogram, mel, MFCC and the int8 features the network is
fed.

Each row has one scale for all columns, so that loud and quiet, yes and no can be compared by eye.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from converter.arrays import Float64, Int8, Int16
from converter.audio.wav import SUFFIXES
from converter.files import write_atomic
from converter.spec import FeatureSpec
from trainer.data.features import stream_features
from trainer.data.recordings import read_pcm
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MAX_COLUMNS, MAX_SECONDS, FLOOR_DB, MFCC_COUNT = 8, 30, -110.0, 13
_MAGMA = ((0, 0, 4), (40, 17, 89), (114, 31, 129), (182, 54, 121), (241, 96, 93), (254, 175, 119), (252, 253, 191))
_SHADES = " ·░▒▓█"


@dataclass(frozen=True)
class Views:
    """One recording seen in six ways. Spectra are in dB of full scale; matrices are [frequency, time]."""

    name: str
    pcm: Int16
    spectrum_db: Float64
    spectrogram_db: Float64
    mel_db: Float64
    mfcc: Float64
    features: Int8

    @property
    def peak_dbfs(self) -> float:
        """The loudest sample, dB below full scale."""
        return float(decibels(np.square(np.abs(self.pcm.astype(np.float64)).max() / 32768)))


def decibels(power: npt.ArrayLike) -> Float64:
    """10 log10, at least FLOOR_DB."""
    found: Float64 = 10 * np.log10(np.maximum(np.asarray(power, np.float64), 10 ** (FLOOR_DB / 10)))
    return found


def view(path: Path, spec: FeatureSpec | None = None) -> Views:
    """All views of one recording of 16 kHz, mono, 16 bit, from a window to 30 s long."""
    import torch

    from trainer.data import torchaudio_cpu

    spec = spec or FeatureSpec()
    pcm = read_pcm(path, spec, min_samples=spec.window_samples, max_seconds=MAX_SECONDS)
    transforms: Any = torchaudio_cpu.load().transforms
    points = 1 << (spec.window_samples - 1).bit_length()
    signal = torch.from_numpy(pcm.astype(np.float64) / 32768)
    shape = {"n_fft": points, "win_length": spec.window_samples, "hop_length": spec.step_samples, "center": False}
    mel_shape = {"n_mels": spec.channels, "f_min": spec.lower_hz, "f_max": spec.upper_hz, **shape}
    signal = torch.nn.functional.pad(signal, (0, points - spec.window_samples))
    full_scale = float(torch.hann_window(spec.window_samples).sum()) ** 2 / 4  # power of a full-scale sine in its bin
    spectrogram = (transforms.Spectrogram(**shape).double()(signal) / full_scale).numpy()
    mel = transforms.MelSpectrogram(spec.sample_rate_hz, **mel_shape).double()(signal) / full_scale
    mfcc = transforms.MFCC(spec.sample_rate_hz, n_mfcc=MFCC_COUNT, melkwargs=mel_shape).double()(signal)
    return Views(
        name=f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem,
        pcm=pcm,
        spectrum_db=decibels(spectrogram.mean(axis=1)),
        spectrogram_db=decibels(spectrogram),
        mel_db=decibels(mel.numpy()),
        mfcc=mfcc.numpy(),
        features=stream_features(pcm, spec),
    )


def chosen(recordings: Sequence[Path], spec: FeatureSpec | None = None, look_at: int = 200) -> list[Path]:
    """The recordings named; a folder of a word stands for its loudest and its quietest clip (of the first 200 by
    name)."""
    found: list[Path] = []
    for path in recordings:
        if not path.is_dir():
            found.append(path)
            continue
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES][:look_at]
        if not files:
            raise TrainerError(f"{path}: must hold .wav or .flac clips, got none; name a word's folder or a recording")
        pcm = (read_pcm(file, spec, max_seconds=MAX_SECONDS).astype(np.float64) for file in files)
        loudness = sorted((float(np.square(one).mean()), file) for one, file in zip(pcm, files, strict=True))
        found += [loudness[-1][1], loudness[0][1]] if len(files) > 1 else files
    if not 1 <= len(found) <= MAX_COLUMNS:
        raise TrainerError(f"features: shows 1 to {MAX_COLUMNS} recordings side by side, got {len(found)}; name fewer")
    return found


def plot_features(wavs: Sequence[Path], out_png: Path, spec: FeatureSpec | None = None) -> None:
    """Write the picture; raises TrainerError for a recording that cannot be read."""
    spec = spec or FeatureSpec()
    plot_views([view(path, spec) for path in chosen(wavs, spec)], out_png, spec)


def plot_views(views: Sequence[Views], out_png: Path, spec: FeatureSpec) -> None:
    """Six rows of axes, a column per recording, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(7.5, 2.2 + 3.6 * len(views)), 14), dpi=110, layout="constrained")
    axes = figure.subplots(6, len(views), squeeze=False, height_ratios=(1, 1, 1.35, 1.35, 1, 1.35))
    _plot_waves(axes[0], views, spec)
    _plot_spectra(axes[1], views, spec)
    top_khz, channels = spec.sample_rate_hz / 2000, (-0.5, spec.channels - 0.5)
    mfcc, features = [one.mfcc[1:] for one in views], [one.features.T.astype(np.float64) for one in views]
    size = max(1.0, *(float(np.percentile(np.abs(image), 99.5)) for image in mfcc))
    plots = (
        ("spectrogram\nfrequency, kHz", [one.spectrogram_db for one in views], (0.0, top_khz), None, "dBFS"),
        ("mel spectrogram\nchannel", [one.mel_db for one in views], channels, None, "dBFS"),
        (
            "MFCC\ncoefficient",
            mfcc,
            (0.5, MFCC_COUNT - 0.5),
            (-size, size),
            "dB",
        ),  # without 0: the loudness would hide the others
        ("micro features, deployed\nchannel", features, channels, (-128.0, 127.0), "int8"),
    )
    for row, (label, images, vertical, limits, unit) in zip(axes[2:], plots, strict=True):
        _plot_images(row, images, vertical, limits, spec)
        row[0].set_ylabel(label)
        row[0].yaxis.get_major_locator().set_params(integer=True)
        figure.colorbar(row[0].images[0], ax=list(row), label=unit, pad=0.01, fraction=0.05, aspect=18)
    longest_s = max(len(one.pcm) for one in views) / spec.sample_rate_hz
    for row in axes[[0, 2, 3, 4, 5]]:
        for one_axes in row:
            one_axes.set_xlim(0, longest_s)
            one_axes.tick_params(labelbottom=one_axes in (*axes[0], *axes[5]))
            one_axes.set_xlabel("time, s" if one_axes in (*axes[0], *axes[5]) else "")
    for one_axes in axes[:, 1:].ravel():
        one_axes.tick_params(labelleft=False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png")
    write_atomic(out_png, buffer.getvalue())


def _plot_waves(row: Any, views: Sequence[Views], spec: FeatureSpec) -> None:
    largest = max(0.01, *(float(np.abs(one.pcm.astype(np.float64)).max()) / 32768 for one in views))
    for axes, one in zip(row, views, strict=True):
        seconds = np.arange(len(one.pcm)) / spec.sample_rate_hz
        peak = f"peak {one.peak_dbfs:.1f} dBFS" if one.pcm.any() else "digital silence"
        axes.set_title(
            f"{one.name}\n{len(one.pcm) / spec.sample_rate_hz:.2f} s, {peak.replace('-0.0 ', '0.0 ')}", fontsize=11
        )
        axes.plot(seconds, one.pcm / 32768, linewidth=0.5, color="#3b0f70")
        axes.set_ylim(-1.05 * largest, 1.05 * largest)
        axes.grid(alpha=0.25)
    row[0].set_ylabel("wave\nshare of full scale")


def _plot_spectra(row: Any, views: Sequence[Views], spec: FeatureSpec) -> None:
    loudest = max(float(one.spectrum_db.max()) for one in views)
    lowest = max(FLOOR_DB, loudest - 80)
    for axes, one in zip(row, views, strict=True):
        khz = np.linspace(0, spec.sample_rate_hz / 2000, len(one.spectrum_db))
        axes.fill_between(
            khz, one.spectrum_db, lowest, where=one.spectrum_db > lowest, color="#b63679", alpha=0.25, linewidth=0
        )
        axes.plot(khz, one.spectrum_db, linewidth=1, color="#b63679")
        axes.set_xlim(0, khz[-1])
        axes.set_ylim(lowest, loudest + 5)
        axes.set_xlabel("frequency, kHz")
        axes.grid(alpha=0.25)
    row[0].set_ylabel("spectrum\nmean power, dBFS")


def _plot_images(
    row: Any,
    images: Sequence[Float64],
    vertical: tuple[float, float],
    limits: tuple[float, float] | None,
    spec: FeatureSpec,
) -> None:
    """Each frame is drawn round the middle of its window, so that columns of pixels stand below their piece of the
    wave."""
    highest = max(float(image.max()) for image in images)
    low, high = limits or (max(FLOOR_DB, highest - 80), max(highest, FLOOR_DB + 1))
    start_s = (spec.window_ms - spec.step_ms) / 2000
    for axes, image in zip(row, images, strict=True):
        end_s = start_s + image.shape[1] * spec.step_ms / 1000
        axes.imshow(
            image,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            cmap="RdBu_r" if low == -high else "magma",
            vmin=low,
            vmax=high,
            extent=(start_s, end_s, *vertical),
        )


def show_features(wavs: Sequence[Path], spec: FeatureSpec | None = None, console: Console | None = None) -> None:
    """Print the deployed features in the terminal, side by side where they fit; shades of grey where there are no
    colours."""
    from rich.columns import Columns
    from rich.console import Console as NewConsole

    spec, console = spec or FeatureSpec(), console or NewConsole()
    files = chosen(wavs, spec)
    panels = []
    for path in files:
        pcm = read_pcm(path, spec, min_samples=spec.window_samples, max_seconds=MAX_SECONDS)
        panels.append(_panel(f"{path.parent.name}/{path.stem}", stream_features(pcm, spec), spec, console))
    console.print(Columns(panels))


def _panel(title: str, features: Int8, spec: FeatureSpec, console: Console) -> RenderableType:
    from rich.panel import Panel
    from rich.text import Text

    room = max(20, min(console.width, 100) - 14)
    together = -(-len(features) // room)
    frames = np.stack([features[start : start + together].mean(axis=0) for start in range(0, len(features), together)])
    text = Text()
    for top in range(spec.channels - 1, -1, -2):
        name = (
            f"{spec.upper_hz / 1000:g} kHz" if top == spec.channels - 1 else f"{spec.lower_hz:g} Hz" if top <= 1 else ""
        )
        text.append(f"{name:>8} ")
        for frame in frames:
            _append_cell(text, float(frame[top]), float(frame[max(0, top - 1)]), console.color_system is not None)
        text.append("\n")
    seconds = f"{len(features) * spec.step_ms / 1000:.2f} s"
    text.append(" " * 9 + "0" + seconds.rjust(len(frames) - 1))
    return Panel(text, title=title, expand=False)


def _append_cell(text: Any, upper: float, lower: float, colours: bool) -> None:
    if colours:
        text.append("▀", style=f"{_colour(upper)} on {_colour(lower)}")
    else:
        text.append(_SHADES[round(((upper + lower) / 2 + 128) / 255 * (len(_SHADES) - 1))])


def _colour(value: float) -> str:
    place = (value + 128) / 255 * (len(_MAGMA) - 1)
    index = min(int(place), len(_MAGMA) - 2)
    mixed = (round(a + (b - a) * (place - index)) for a, b in zip(_MAGMA[index], _MAGMA[index + 1], strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
