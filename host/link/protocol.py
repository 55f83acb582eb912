"""The board's lines as records, read strictly: a line is one of ours in full, or HostError says what is wrong with it.

Twin of firmware/lib/protocol; docs/protocol.md describes each record.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from converter.arrays import WIRE_TYPES
from converter.spec import DetectorSpec
from host.errors import HostError
from host.link.detector import FIRST_WORD

MAX_LINE = 16384  # m-results of 640 scores (the MLPerf autoencoder) takes 5 KB
PROTOCOL_VERSION = 2
AUDIO_SAMPLES = 320  # most samples in one `audio` or `pcm` line
RING_SAMPLES = 8192  # most samples that a board keeps of its microphone until they are sent
QUIET_SAMPLES = 16000  # most samples of digital silence in one `quiet`


@dataclass(frozen=True)
class Ready:
    """m-ready: the reply is complete."""


@dataclass(frozen=True)
class Failure:
    """e-[text]"""

    text: str


@dataclass(frozen=True)
class Mark:
    """m-NAME or m-NAME-NUMBER, such as m-init-done and m-lap-us-123."""

    name: str
    value: int | None = None


@dataclass(frozen=True)
class Record:
    """m-KEY-[a,b,...]; the key is empty in m-[Expecting N bytes]."""

    key: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """A line of prose (help)."""

    text: str


Line = Union[Ready, Failure, Mark, Record, Text]

_LABELS = b"m-labels-["  # words of any language, in UTF-8; all else is ASCII
_RECORD = re.compile(r"m-(?:([a-z]+(?:-[a-z]+)*)-)?\[([^\[\]]*)\]")
_MARK = re.compile(r"m-([a-z]+(?:-[a-z]+)*)(?:-([0-9]{1,20}))?")
_BUFFER = re.compile(r"m-buffer((?:-[0-9a-f]{2}){1,8})")
_FAILURE = re.compile(r"e-\[(.*)\]")
_NUMBER = re.compile(r"-?[0-9]{1,20}")


def parse_line(raw: bytes) -> Line:
    """One line without its \\r\\n as a record; raises HostError for what no board of ours sends.

    >>> parse_line(b"m-lap-us-12"), parse_line(b"m-memory-[1,2,3,4]").fields
    (Mark(name='lap-us', value=12), ('1', '2', '3', '4'))
    """
    try:
        text = raw.decode("utf-8" if raw.startswith(_LABELS) else "ascii")
    except UnicodeDecodeError:
        text = "\n"
    if len(raw) > MAX_LINE or not text.isprintable():
        raise HostError(f"the board sent {_shown(raw)}, which is no line of text; check port and speed (115200 8N1)")
    if text == "m-ready":
        return Ready()
    if found := _FAILURE.fullmatch(text):
        return Failure(found[1])
    if found := _BUFFER.fullmatch(text):
        return Record("buffer", tuple(found[1][1:].split("-")))
    if found := _RECORD.fullmatch(text):
        return Record(found[1] or "", tuple(found[2].split(",")))
    if found := _MARK.fullmatch(text):
        return Mark(found[1], None if found[2] is None else int(found[2]))
    if text.startswith(("m-", "e-")):
        raise HostError(
            f"the board sent {_shown(raw)}, which is no record of the protocol; reset it or flash this project's "
            f"firmware"
        )
    return Text(text)


def _shown(raw: bytes) -> str:
    return repr(raw if len(raw) <= 60 else raw[:57] + b"...")


class _Fields:
    """The fields of one record, taken one after the other; every surprise is a HostError that quotes the record."""

    def __init__(self, record: Record, count: int | None = None) -> None:
        self.record = record
        self.rest = list(record.fields)
        if count is not None and len(self.rest) != count:
            raise self.error(f"wants {count} fields, got {len(self.rest)}")

    def error(self, what: str) -> HostError:
        shown = ",".join(self.record.fields)
        return HostError(f"m-{self.record.key}-[{shown[:60]}]: {what}; board and host must be of one version")

    def text(self) -> str:
        if not self.rest:
            raise self.error("a field is missing")
        return self.rest.pop(0)

    def number(self, low: int = 0, high: int = (1 << 32) - 1) -> int:
        text = self.text()
        if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
            raise self.error(f"{text!r} is no number from {low} to {high}")
        return int(text)

    def hex(self, digits: int | None = None) -> bytes:
        text = self.text()
        if (digits is not None and len(text) != digits) or len(text) % 2 or not re.fullmatch("[0-9a-f]*", text):
            raise self.error(f"{text[:20]!r} is not {digits or 'an even number of'} hex digits")
        return bytes.fromhex(text)


def signed(raw: bytes) -> tuple[int, ...]:
    """Bytes as int8."""
    return tuple(byte - 256 if byte > 127 else byte for byte in raw)


@dataclass(frozen=True)
class Audio:
    """m-audio: the front end's numbers."""

    sample_rate_hz: int
    window_samples: int
    step_samples: int
    clip_samples: int
    frames: int
    channels: int


@dataclass(frozen=True)
class WireTensor:
    """m-tensor: one input or output of a model that only TensorFlow Lite Micro runs; kind as numpy names types, scale
    0: none."""

    side: str
    kind: str
    shape: str
    bytes: int
    scale: float
    zero_point: int

    @staticmethod
    def of(record: Record) -> WireTensor:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 6)
        side, kind, shape, count = fields.text(), fields.text(), fields.text(), fields.number(1)
        if side not in ("input", "output") or kind not in WIRE_TYPES:
            raise fields.error(f"is no {kind[:20]} {side[:20]} that this host knows")
        scale = fields.text()
        if not re.fullmatch(r"[0-9.e+-]{1,20}", scale):
            raise fields.error(f"{scale[:20]!r} is no scale")
        return WireTensor(side, kind, shape, count, float(scale), fields.number(-(1 << 31), (1 << 31) - 1))


@dataclass(frozen=True)
class Identity:
    """The reply to id%. labels, audio and detector are empty or None for a model without a front end.

    A model of one word may have one output, its probability; else each label has one.
    """

    spec_id: str
    model_id: str
    model_name: str
    version: str
    engine: str
    board: str
    clock_hz: int
    input_bytes: int
    output_bytes: int
    layers: int
    labels: tuple[str, ...] = ()
    audio: Audio | None = None
    detector: DetectorSpec | None = None
    tensors: tuple[WireTensor, ...] = ()  # empty: one int8 input and one int8 output

    @property
    def outputs(self) -> tuple[str, ...]:
        """What each output stands for: its label, its number without a front end."""
        return self.labels[-self.output_bytes :] or tuple(str(index) for index in range(self.output_bytes))

    @staticmethod
    def of(records: Sequence[Record]) -> Identity:
        """Parse the record; raises HostError on fields that do not fit."""
        tensors = tuple(WireTensor.of(record) for record in records if record.key == "tensor")
        records = [record for record in records if record.key != "tensor"]
        by_key = {record.key: record for record in records}
        missing = {"id", "firmware", "network"} - by_key.keys()
        if missing or len(by_key) != len(records):
            raise HostError(
                f"id%: the reply lacks or repeats {', '.join(sorted(missing)) or 'a record'}; flash this project's "
                f"firmware"
            )
        ids, firmware, network = _Fields(by_key["id"], 3), _Fields(by_key["firmware"], 5), _Fields(by_key["network"], 3)
        spec_id, model_id, model_name = ids.text(), ids.text(), ids.text()
        version, protocol, engine, board, clock_hz = (
            firmware.text(),
            firmware.number(),
            firmware.text(),
            firmware.text(),
            firmware.number(1_000_000, 10**9),
        )
        if protocol != PROTOCOL_VERSION:
            raise HostError(
                f"the board speaks protocol {protocol}, this host {PROTOCOL_VERSION}; flash the firmware of this "
                f"version"
            )
        sizes = network.number(1), network.number(1), network.number(1)
        if "labels" not in by_key:
            found = Identity(spec_id, model_id, model_name, version, engine, board, clock_hz, *sizes, tensors=tensors)
            for side, size in zip(("input", "output"), sizes, strict=False):
                if tensors and sum(tensor.bytes for tensor in tensors if tensor.side == side) != size:
                    raise HostError(f"id%: its {side}s do not take {size} bytes; flash this project's firmware")
            return found
        if not {"audio", "detector"} <= by_key.keys():
            raise HostError("id%: the reply names labels but lacks audio or detector; flash this project's firmware")
        audio = _Fields(by_key["audio"], 6)
        labels = by_key["labels"].fields
        if len(labels) != sizes[1] and (len(labels), sizes[1]) != (FIRST_WORD + 1, 1):
            raise HostError(f"id%: {len(labels)} labels for {sizes[1]} scores; flash this project's firmware")
        detector = read_detector([by_key["detector"]], len(labels))
        numbers = [audio.number(1) for _ in range(6)]
        return Identity(
            spec_id, model_id, model_name, version, engine, board, clock_hz, *sizes, labels, Audio(*numbers), detector
        )


def read_detector(records: Sequence[Record], labels: int) -> DetectorSpec:
    """The detector of m-detector, with the table of rates where m-rate records follow; HostError on what does not
    fit."""
    if not records or [record.key for record in records] != ["detector", *["rate"] * (len(records) - 1)]:
        shown = ", ".join(record.key for record in records) or "none"
        raise HostError(f"detector%: wants a detector record and rates, got {shown}; flash this project's firmware")
    words = max(1, labels - FIRST_WORD)
    fields = _Fields(records[0], 4 + words)
    hop, count, suppress, settle = (fields.number() for _ in range(4))
    thresholds = _thresholds(fields)
    rates = []
    for record in records[1:]:
        row = _Fields(record, 1 + words)
        rates.append((row.number() / 1000, _thresholds(row)))
    try:
        return DetectorSpec(thresholds, hop, count, suppress, settle, tuple(rates))
    except ValueError as error:
        raise fields.error(str(error)) from None


def _thresholds(fields: _Fields) -> tuple[int, ...]:
    return tuple(fields.number(-(1 << 15), (1 << 15) - 1) for _ in range(len(fields.rest)))


@dataclass(frozen=True)
class Memory:
    """m-memory, all in bytes."""

    flash: int
    static_ram: int
    arena: int
    stack_high_water: int

    @staticmethod
    def of(record: Record) -> Memory:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 4)
        return Memory(fields.number(), fields.number(), fields.number(), fields.number())


@dataclass(frozen=True)
class LayerRun:
    """m-layer: one layer of a traced inference. crc32 is None where the engine cannot see the output."""

    index: int
    name: str
    cycles: int
    crc32: int | None

    @staticmethod
    def of(record: Record) -> LayerRun:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 4)
        index, name, cycles = fields.number(), fields.text(), fields.number()
        return LayerRun(index, name, cycles, None if fields.rest == ["none"] else int.from_bytes(fields.hex(8), "big"))


@dataclass(frozen=True)
class Slice:
    """m-slice: the features of one frame of the clip."""

    index: int
    cycles: int
    features: bytes

    @staticmethod
    def of(record: Record) -> Slice:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 3)
        return Slice(fields.number(), fields.number(), fields.hex())


@dataclass(frozen=True)
class Features:
    """m-features: the whole window, with the slices it was made of."""

    crc32: int
    cycles: int
    ms: int
    slices: tuple[Slice, ...]

    @property
    def data(self) -> bytes:
        """The int8 features of all slices, one byte each."""
        return b"".join(part.features for part in self.slices)

    @staticmethod
    def of(record: Record, slices: Sequence[Slice]) -> Features:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 4)
        size, crc32 = fields.number(), int.from_bytes(fields.hex(8), "big")
        if size != sum(len(part.features) for part in slices) or [part.index for part in slices] != list(
            range(len(slices))
        ):
            raise fields.error("the slices before it do not add up to it")
        return Features(crc32, fields.number(), fields.number(), tuple(slices))


@dataclass(frozen=True)
class Window:
    """m-window: the features of a whole window, timed once."""

    index: int
    slices: int
    cycles: int
    ms: int

    @staticmethod
    def of(record: Record) -> Window:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 4)
        return Window(*(fields.number() for _ in range(4)))


@dataclass(frozen=True)
class Run:
    """m-run: the stage times of one run; `slice_*` is the first slice of `pre_*`, which holds `slices` of them."""

    index: int
    slices: int
    slice_cycles: int
    pre_cycles: int
    infer_cycles: int
    post_cycles: int
    slice_ms: int
    pre_ms: int
    infer_ms: int
    post_ms: int
    stream_cycles: int | None = None  # the same inference by streaming, where the engine streams
    stream_ms: int | None = None

    @staticmethod
    def of(record: Record) -> Run:
        """Parse the record; raises HostError on fields that do not fit."""
        count = 12 if len(record.fields) == 12 else 10
        fields = _Fields(record, count)
        return Run(*(fields.number() for _ in range(count)))


@dataclass(frozen=True)
class Heard:
    """m-heard: one inference while listening. scores are int8; word is a label's index or None; lost counts samples."""

    index: int
    frame: int
    pre_cycles: int
    infer_cycles: int
    post_cycles: int
    pre_ms: int
    infer_ms: int
    post_ms: int
    scores: tuple[int, ...]
    word: int | None
    lost: int

    @staticmethod
    def of(record: Record, labels: int, outputs: int) -> Heard:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 11)
        index, frame, *times = (fields.number() for _ in range(8))
        scores, word, lost = signed(fields.hex(2 * outputs)), fields.number(-1, labels - 1), fields.number()
        return Heard(
            index,
            frame,
            times[0],
            times[1],
            times[2],
            times[3],
            times[4],
            times[5],
            scores,
            None if word < 0 else word,
            lost,
        )


@dataclass(frozen=True)
class Sound:
    """m-pcm: one step of what the microphone hears, int16 little-endian; `lost` counts samples since the start."""

    index: int
    lost: int
    data: bytes

    @staticmethod
    def of(record: Record, samples: int) -> Sound:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 3)
        index, lost, text = fields.number(), fields.number(), fields.text()
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error:
            data = b""
        if len(data) != 2 * samples:
            raise fields.error(f"its samples are not base64 of {samples} samples of 16 bits")
        return Sound(index, lost, data)


@dataclass(frozen=True)
class CacheCounts:
    """m-cache: hits and misses of the flash's instruction cache."""

    hits: int
    misses: int

    @staticmethod
    def of(record: Record) -> CacheCounts:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 2)
        return CacheCounts(fields.number(), fields.number())


@dataclass(frozen=True)
class Recorded:
    """m-recorded: the end; steps sent, samples lost, CRC-32 of all that were sent."""

    steps: int
    lost: int
    crc32: int

    @staticmethod
    def of(record: Record) -> Recorded:
        """Parse the record; raises HostError on fields that do not fit."""
        fields = _Fields(record, 3)
        return Recorded(fields.number(), fields.number(), int.from_bytes(fields.hex(8), "big"))
