"""Recordings: what is read bit for bit, what is converted on request, and what is refused in one sentence."""

from __future__ import annotations

import math
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_cli import audio_command
from frontend.signals import golden_pcm, whole

from converter.arrays import Int16
from converter.audio.resampling import Resampler
from converter.audio.wav import read_wav
from converter.errors import ConvertError
from converter.spec import FeatureSpec
from trainer.data import torchaudio_cpu
from trainer.data.recordings import (
    convert_pcm,
    convert_recordings,
    pcm_samples,
    read_pcm,
    resample,
    to_int16,
    write_wav,
)
from trainer.errors import TrainerError

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, samples: object, rate: int = 16000, subtype: str = "PCM_16", form: str | None = None) -> Path:
    soundfile.write(os.fsencode(path), samples, rate, subtype=subtype, format=form or path.suffix[1:].upper())
    return path


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
def test_deployed_format_is_read_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    pcm = golden_pcm(16000)
    file = write(tmp_path / f"one{suffix}", pcm)
    for read in (read_wav, read_pcm, convert_pcm):
        assert read(file).tolist() == pcm.tolist()


def test_long_recordings_are_read_whole(tmp_path: Path) -> None:
    pcm = np.resize(golden_pcm(16000), 3 * 65536)
    assert np.array_equal(read_pcm(write(tmp_path / "long.flac", pcm)), pcm)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype", "found"),
    [
        (8000, 1, "PCM_16", "8000 Hz, mono, PCM_16"),
        (44100, 1, "PCM_16", "44100 Hz"),
        (16000, 2, "PCM_16", "stereo"),
        (16000, 1, "FLOAT", "FLOAT"),
        (16000, 1, "PCM_24", "PCM_24"),
        (16000, 1, "PCM_U8", "PCM_U8"),
        (16000, 9, "PCM_16", "9 channels"),
    ],
)
def test_another_format_is_refused_with_what_was_found(
    tmp_path: Path, rate: int, channels: int, subtype: str, found: str
) -> None:
    file = write(tmp_path / "other.wav", np.zeros((rate, channels)), rate, subtype)
    with pytest.raises(TrainerError) as caught:
        read_pcm(file)
    assert found in str(caught.value) and "\n" not in str(caught.value)


def _cut_off(file: Path) -> None:
    write(file, golden_pcm(16000))
    file.write_bytes(file.read_bytes()[:9001])


def _nan(file: Path) -> None:
    write(file, np.full(16000, np.nan), subtype="FLOAT")


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty file": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("not audio, but some text\n" * 40),
    "header only": lambda file: file.write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt "),
    "no samples": lambda file: write(file, np.zeros(0, np.int16)),
    "cut off": _cut_off,
    "a folder": lambda file: file.mkdir(),
    "missing": lambda file: None,
    "NaN": _nan,
    "4 kHz": lambda file: write(file, np.zeros(4000, np.int16), 4000),
    "an AIFF": lambda file: write(file, golden_pcm(1600), form="AIFF"),
    "nine channels": lambda file: write(file, np.zeros((1600, 9), np.int16)),
    "too long": lambda file: write(file, np.zeros(16000 * 12, np.int16)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_recordings_are_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "broken.wav"
    BROKEN[kind](file)
    for read in (read_pcm, convert_pcm):
        with pytest.raises(TrainerError) as caught:
            read(file, max_seconds=10)
        message = str(caught.value)
        assert message.startswith(f"{file}: ") and "\n" not in message and "; " in message
    with pytest.raises(ConvertError):
        read_wav(file, max_seconds=10)


def test_other_refusals(tmp_path: Path) -> None:
    short = write(tmp_path / "short.wav", golden_pcm(479))
    with pytest.raises(TrainerError, match=r"too short, needs at least 480 samples \(30 ms\), got 479"):
        read_pcm(short, min_samples=480)
    assert len(read_pcm(short)) == 479
    other = tmp_path / "speech.mp3"
    other.write_bytes(short.read_bytes())
    with pytest.raises(TrainerError, match=r"must be a \.wav or \.flac file, got `\.mp3`"):
        read_pcm(other)
    odd = write(tmp_path / "odd.wav", np.zeros(96001), 96001)
    with pytest.raises(TrainerError, match="simple ratio to 16000 Hz, got 96001 Hz"):
        convert_pcm(odd)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 176_400])
def test_a_long_recording_is_resampled_in_blocks_to_the_same_samples(
    rate_hz: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = np.random.default_rng(3).normal(0, 0.2, 3 * rate_hz + 17)
    monkeypatch.setattr("trainer.data.recordings.MAX_WINDOWS", 1 << 40)
    whole_one = resample(signal, rate_hz, 16000)
    for most in (1, 100_000, 1 << 20):
        monkeypatch.setattr("trainer.data.recordings.MAX_WINDOWS", most)
        part = signal if most > 1 else signal[: rate_hz // 50]
        blocks = resample(part, rate_hz, 16000)
        assert len(blocks) == math.ceil(len(part) * 16000 / rate_hz)
        same = slice(0, len(blocks) if most > 1 else len(blocks) - 64)  # what lies behind a part counts into its end
        assert np.abs(blocks[same] - whole_one[: len(blocks)][same]).max() < 1e-12
        assert np.array_equal(to_int16(blocks[same]), to_int16(whole_one[: len(blocks)][same]))


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory by /proc")
@pytest.mark.parametrize(
    ("rate_hz", "samples", "channels", "suffix", "says"),
    [
        *((rate, rate, 1, ".wav", "simple ratio") for rate in (16_001, 17_998, 19_998, 31_998, 44_103)),
        (768_000, 1_000_000, 1, ".wav", "20834 samples"),
        (48_000, 960_000, 1, ".wav", "320000 samples"),
        (47_952, 200_000, 5, ".wav", "66734 samples"),
        (48_000, 48_000 * 300, 8, ".flac", "mostly silence, cut it"),
    ],
)
def test_a_small_file_of_any_rate_takes_little_memory_and_time(
    tmp_path: Path, rate_hz: int, samples: int, channels: int, suffix: str, says: str
) -> None:
    """At most 500 MB and 10 s of processor for up to 2 MB; torch alone is 240 MB and 3 s."""
    file = tmp_path / f"a{suffix}"
    soundfile.write(file, np.zeros((samples, channels), np.int16), rate_hz, subtype="PCM_16")
    assert file.stat().st_size <= 2_100_000
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", CONVERTS, file], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told, peak_kb = done.stdout.splitlines()
    assert says in told, told
    assert int(peak_kb) < 500_000 and after.ru_utime - before.ru_utime < 10


CONVERTS = """
import resource, sys
from trainer.data.recordings import convert_pcm
from trainer.errors import TrainerError
try:
    print(len(convert_pcm(sys.argv[1])), "samples")
except TrainerError as error:
    print(error)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_cut_off_flac_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "cut.flac", whole(np.random.default_rng(1).normal(size=32000) * 5000))
    file.write_bytes(file.read_bytes()[:20000])
    with pytest.raises(TrainerError, match=r"cut\.flac: "):
        read_pcm(file)


def test_damaged_recordings_never_crash_hang_or_trace() -> None:
    command = [sys.executable, str(ROOT / "tests/support/frontend/fuzz_recordings.py"), "20261", "1000"]
    where = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=where, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 1000  # most are refused; what decodes in spite of the damage is sound


@pytest.mark.parametrize("rate", [22050, 32000, 44100, 48000, 96000])
def test_conversion_keeps_speech_and_drops_what_cannot_be_kept(tmp_path: Path, rate: int) -> None:
    time = np.arange(rate) / rate
    kept, dropped = 0.4 * np.sin(2 * math.pi * 1000 * time), 0.4 * np.sin(2 * math.pi * 10000 * time)
    stereo = np.stack([kept + dropped, kept - dropped / 2], axis=1)
    pcm = convert_pcm(write(tmp_path / "in.wav", stereo, rate, "FLOAT"))
    expected = 0.4 * 32768 * np.sin(2 * math.pi * 1000 * np.arange(16000) / 16000)
    assert len(pcm) == 16000
    assert np.abs(pcm - expected)[200:-200].max() < 20


def test_floats_beyond_full_scale_are_refused_and_a_few_are_clipped(tmp_path: Path) -> None:
    sound = 0.9 * np.sin(np.arange(16000) * 0.1)
    sound[100] = 1.4
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    assert convert_pcm(tmp_path / "a.wav")[100] == 32767
    soundfile.write(tmp_path / "b.wav", sound * 32768, 16000, subtype="FLOAT")
    with pytest.raises(
        TrainerError, match=r"b\.wav: 100 % of its samples lie beyond full scale.*; export it at a lower"
    ):
        convert_pcm(tmp_path / "b.wav")


def test_channels_that_cancel_each_other_are_told(tmp_path: Path) -> None:
    left = np.random.default_rng(0).integers(-9000, 9000, 16000)
    for right, cancels in ((-left + 20, True), (-left // 2, False), (left, False)):
        file = write(tmp_path / "a.wav", np.stack([left, right], axis=1).astype(np.int16))
        if cancels:
            with pytest.raises(TrainerError, match="its channels cancel each other, one is turned over"):
                convert_pcm(file)
        else:
            assert np.abs(convert_pcm(file) - (left + right) / 2).max() <= 1


def test_conversion_of_a_folder_keeps_its_shape(tmp_path: Path) -> None:
    (tmp_path / "in" / "yes").mkdir(parents=True)
    write(tmp_path / "in" / "yes" / "a.flac", np.zeros((48000, 2)), 48000, "PCM_24")
    write(tmp_path / "in" / "b.wav", golden_pcm(800))
    for _ in range(2):  # and again into the same folder
        written = [Path(made) for made in convert_recordings([tmp_path / "in"], tmp_path / "out")]
        assert [file.relative_to(tmp_path / "out").as_posix() for file in written] == ["b.wav", "yes/a.wav"]
    assert read_pcm(written[0]).tolist() == golden_pcm(800).tolist() and len(read_pcm(written[1])) == 16000
    (said,) = convert_recordings([tmp_path / "in" / "b.wav"], tmp_path / "in")
    assert "must not be overwritten by its own conversion" in str(said)
    (tmp_path / "nothing").mkdir()
    (said,) = convert_recordings([tmp_path / "nothing"], tmp_path / "new")
    assert "must hold .wav or .flac files" in str(said)


def unfinished(file: Path, pcm: Int16, riff: int, data: int, before: bytes = b"") -> Path:
    """A WAV whose recorder was cut off before it wrote the two lengths."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    body = struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + before + struct.pack("<4sI", b"data", data)
    file.write_bytes(body + pcm.tobytes())
    return file


LIST = struct.pack("<4sI", b"LIST", 6) + b"INFOab"


@pytest.mark.parametrize("before", [b"", LIST])
@pytest.mark.parametrize(
    ("riff", "data"),
    [
        *((0, 0), (36, 0), (8, 0), (0xFFFFFFFF, 0), (0x7FFFF024, 0x7FFFF000), (0x80000024, 0x80000000)),
        *((0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFFFFF, 0x7FFFFFDB), (0, 0xFFFFFFDB), (0x7F000024, 0x7F000000)),
    ],
)
def test_a_header_that_was_never_finished_is_read_to_the_end(
    tmp_path: Path, riff: int, data: int, before: bytes
) -> None:
    for samples in (1, 16000, 200_000):
        pcm = np.resize(golden_pcm(16000), samples)
        file = unfinished(tmp_path / "a.wav", pcm, riff, data, before)
        for read in (read_wav, read_pcm, convert_pcm):
            assert np.array_equal(read(file), pcm)
        assert pcm_samples(file, FeatureSpec()) == samples


def test_an_honest_header_is_believed(tmp_path: Path) -> None:
    pcm = golden_pcm(1000)
    empty = unfinished(tmp_path / "empty.wav", pcm[:0], 36 + len(LIST), 0)
    empty.write_bytes(empty.read_bytes() + LIST)
    cut = unfinished(tmp_path / "cut.wav", pcm, 36 + 4000, 4000)
    for file, says in ((empty, "too short"), (cut, "cut off, 4000 bytes of samples are announced, got 2000")):
        with pytest.raises(TrainerError, match=says):
            read_pcm(file)


def test_bad_recordings_of_a_folder_are_all_named_and_the_others_converted(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for place in ("yes", "__MACOSX/yes", ".hidden"):
        (folder / place).mkdir(parents=True)
    write(folder / "good.wav", golden_pcm(800))
    write(folder / os.fsdecode(b"caf\xe9.wav"), golden_pcm(900))
    apple = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(60)
    for hidden in ("._good.wav", "yes/._b.wav", "__MACOSX/yes/._c.wav", "__MACOSX/yes/c.wav", ".hidden/d.wav"):
        (folder / hidden).write_bytes(apple)
    (folder / "yes" / "text.wav").write_text("no sound\n" * 40)
    (folder / "yes" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (folder / "yes" / "fake.mp3").write_text("no sound\n" * 40)
    write(folder / "yes" / "slow.flac", np.zeros(8000, np.int16), 4000)
    (folder / "notes.txt").write_text("not a recording")
    code, said, errors = audio_command(folder, "--out", out)
    assert code == 1 and len(said.splitlines()) == 2
    assert sorted(os.fsencode(file.name) for file in out.rglob("*.wav")) == [b"caf\xe9.wav", b"good.wav"]
    *each, last = errors.splitlines()
    assert [line.split(": ")[1].rsplit("/", 1)[1] for line in each] == ["fake.mp3", "gone.wav", "slow.flac", "text.wav"]
    assert all(line.startswith("error: ") and "; " in line for line in each)
    assert last == "error: 4 of 6 were not converted; mend or remove them"


@pytest.mark.parametrize("same", [False, True])
def test_no_recording_is_lost_to_another_of_its_name(tmp_path: Path, same: bool) -> None:
    for number, place in enumerate(("a/1.wav", "b/1.wav", "c/1.wav", "c/1.flac")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        write(tmp_path / place, golden_pcm(800 if same else 800 + number))
    out = tmp_path / "out"
    for sources in (("a", "b"), ("c",), ("a/1.wav", "b/1.wav"), ("a", "b/1.wav")):
        code, said, errors = audio_command(*(tmp_path / source for source in sources), "--out", out)
        assert code == 1 and not said and not out.exists() and len(errors.splitlines()) == 1
        assert "as" in errors and errors.count("/1.") == 3, errors
    assert audio_command(tmp_path / "a", "--out", out)[0] == 0
    code, said, errors = audio_command(tmp_path / "b", "--out", out)
    assert code == (0 if same else 1) and len(read_pcm(out / "1.wav")) == 800
    assert same or "is there and another recording than" in errors
    code, said, errors = audio_command(tmp_path / "a", tmp_path / "a", "--out", out)
    assert code == 0 and len(said.splitlines()) == 1


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_compressed_recordings_are_decoded(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    tone = 0.3 * np.sin(2 * math.pi * 440 * np.arange(24000) / 16000)
    source = write(tmp_path / "tone.wav", tone)
    names = [f"a.{kind}" for kind in ("mp3", "m4a", "OGG", "opus", "aiff")]
    for name in names:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", source, "-strict", "-2", folder / name]
        subprocess.run([*map(str, command), "-y"], check=True)
    for name in names:
        (made,) = convert_recordings([folder / name], tmp_path / name)
        pcm = read_pcm(Path(made)).astype(np.float64) / 32768
        assert abs(len(pcm) - 24000) < 3000
        spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
        assert abs(spectrum.argmax() * 16000 / len(pcm) - 440) < 3 and abs(np.abs(pcm).max() - 0.3) < 0.1
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(source), "-ar", "4000", str(tmp_path / "slow.aiff")], check=True
    )
    (said,) = convert_recordings([tmp_path / "slow.aiff"], tmp_path / "out")
    assert "must be sampled at 8000 Hz or more, got 4000 Hz" in str(said)


@pytest.mark.parametrize(("rate", "deaf"), [(8000, 9), (11025, 4), (12000, 3), (15000, 0)])
def test_a_low_rate_is_converted_with_a_warning_once(
    tmp_path: Path, rate: int, deaf: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tone = 0.4 * np.sin(2 * math.pi * 1000 * np.arange(rate) / rate)
    file = write(tmp_path / "slow.wav", tone, rate)
    for _ in range(2):
        pcm = convert_pcm(file)
    expected = 0.4 * 32768 * np.sin(2 * math.pi * 1000 * np.arange(16000) / 16000)
    assert len(pcm) == 16000 and np.abs(pcm - expected)[400:-400].max() < 20
    says = f"nothing above {rate / 2:g} Hz was recorded, where {deaf} of 40 channels look; record at 16 kHz if you can"
    said = capsys.readouterr().err
    assert said == (f"warning: {file}: sampled at {rate} Hz: {says}\n" if deaf else "")


def test_without_ffmpeg_each_compressed_recording_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp3", "b.m4a", "c.ogg"):
        (tmp_path / name).write_bytes(b"x" * 100)
    write(tmp_path / "d.wav", golden_pcm(800))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = list(convert_recordings([tmp_path], tmp_path / "out"))
    assert said[3] == tmp_path / "out" / "d.wav"
    for name, one in zip(("a.mp3", "b.m4a", "c.ogg"), said[:3], strict=True):
        assert name in str(one) and "ffmpeg" in str(one)


def test_written_recordings_read_back(tmp_path: Path) -> None:
    write_wav(tmp_path / "new" / "one.wav", golden_pcm(4000))
    assert read_pcm(tmp_path / "new" / "one.wav").tolist() == golden_pcm(4000).tolist()
    assert to_int16(np.array([-32768, -1, 0, 1, 32767]) / 32768).tolist() == [-32768, -1, 0, 1, 32767]


def test_torchaudio_works_beside_cpu_only_torch() -> None:
    import torch

    torchaudio = torchaudio_cpu.load()
    assert torchaudio.__version__.split("+")[0] == torchaudio_cpu.VERSION
    transforms, signal = torchaudio.transforms, torch.sin(torch.arange(16000) * 2 * math.pi * 1000 / 16000)
    shape = {"n_fft": 512, "win_length": 480, "hop_length": 320, "center": False}
    mel = transforms.MelSpectrogram(16000, n_mels=40, f_min=125.0, f_max=7500.0, **shape)(signal)
    assert mel.shape == (40, 49)
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (125, 7500))
    hertz = 700 * (10 ** (np.linspace(low, high, 42) / 2595) - 1)
    assert abs(float(hertz[1:-1][int(mel.mean(1).argmax())]) - 1000) < 60
    mfcc = transforms.MFCC(16000, n_mfcc=13, melkwargs={"n_mels": 40, "f_min": 125.0, "f_max": 7500.0, **shape})(signal)
    assert mfcc.shape == (13, 49) and bool(torch.isfinite(mfcc).all())
    torch.manual_seed(0)
    ones = torch.ones(1, 40, 49)
    for mask, axis in ((transforms.FrequencyMasking(8), 2), (transforms.TimeMasking(10), 1)):
        widths = [int((mask(ones) == 0).all(axis).sum()) for _ in range(30)]
        assert 4 < max(widths) <= 10 and len(set(widths)) > 3
    assert len(transforms.Resample(48000, 16000)(torch.zeros(4800))) == 1600
    tone = np.sin(2 * math.pi * 440 * np.arange(48000) / 48000)
    assert np.abs(resample(tone, 48000, 16000) - tone[::3])[100:-100].max() < 1e-4


def test_torchaudio_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.9.1+cpu")
    with pytest.raises(TrainerError, match=r"version 2\.11\.0 is needed, got 2\.9\.1"):
        torchaudio_cpu.load()


def test_torchaudio_loads_from_several_threads_at_once() -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\nfrom trainer.data.torchaudio_cpu import load\n"
        "with ThreadPoolExecutor(8) as pool: print(all(hasattr(m, 'transforms') for m in pool.map(lambda _: "
        "load(), range(8))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.parametrize("from_hz", [8000, 22050, 44100, 48000])
def test_sound_resampled_piece_by_piece_is_the_whole_resampled(from_hz: int) -> None:
    rng = np.random.default_rng(from_hz)
    pcm, resampler = rng.normal(0, 9000, from_hz + 17).clip(-32768, 32767).astype(np.int16), Resampler(from_hz, 16000)
    cuts = np.sort(rng.integers(0, len(pcm), 30))
    made = np.concatenate([resampler.push(part) for part in np.split(pcm, cuts)])
    whole = to_int16(resample(pcm / 32768, from_hz, 16000))
    assert len(whole) - 140 < len(made) and np.array_equal(made, whole[: len(made)])
    with pytest.raises(ConvertError, match="simple ratio to 16000 Hz, got 22051 Hz"):
        Resampler(22051, 16000)
