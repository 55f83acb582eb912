"""kws_model.h: what the firmware must know of a model whichever engine runs it; macros only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converter.graph import Graph
from converter.operators.fully_connected import FullyConnected
from converter.spec import DetectorSpec, KwsSpec
from converter.tflite.c_array import PROVENANCE
from converter.tflite.one_channel import graph_in_tflite
from converter.tflite.tflm_only import CUSTOM, RESOLVERS, TflmOnly, WireTensor
from converter.tflite.writer import fits_int4

ARENA_FIXED_BYTES, ARENA_LAYER_BYTES = 3072, 512


def render_kws_header(graph: Graph, name: str, detector: DetectorSpec | None = None, int4: bool = False) -> str:
    """kws_model.h; the spec comes from graph.spec_json, and without one there is no front end. int4: the .tflite has
    such weights."""
    spec = KwsSpec.from_json(graph.spec_json) if graph.spec_json else None
    parts = [_model_macros(graph, name, spec, int4)]
    if spec:
        parts.append(_spec_macros(spec, detector or DetectorSpec.untuned(len(spec.words))))
    return _header(parts)


def render_tflm_header(model: TflmOnly, arena_bytes: int) -> str:
    """kws_model.h of a model that only TensorFlow Lite Micro runs, in an arena of so many bytes."""
    calls = " ".join(f"(r).{RESOLVERS.get(operator) or CUSTOM[operator]}();" for operator in model.operators)
    tensors = [*(_wire("input", end) for end in model.inputs), *(_wire("output", end) for end in model.outputs)]
    macros: dict[str, str | int] = {
        "MODEL_ID": _string(model.model_id),
        "SPEC_ID": _string("none"),
        "MODEL_NAME": _string(model.name),
        "INPUT_BYTES": model.input_bytes,
        "OUTPUT_BYTES": model.output_bytes,
        "OUTPUT_SCALE": _float(1.0),  # bytes of any type, not scores
        "OUTPUT_ZERO_POINT": 0,
        "LAYERS": model.layers,
        "TFLM_ONLY": 1,
        "INPUTS": len(model.inputs),
        "OUTPUTS": len(model.outputs),
        "TENSORS": "{" + ", ".join(tensors) + "}",
        "TFLM_OPS": len(model.operators),
        "TFLM_ADD_OPS(r)": f"do {{ {calls} }} while (0)",
        "TFLM_ARENA_BYTES": arena_bytes,
        "TFLM_NEEDS_PER_CHANNEL_DENSE": int(model.is_dense_per_channel),
        "HAS_FRONTEND": 0,
        **({"VARIABLES": model.variables} if model.variables else {}),
    }
    return _header([macros])


def _wire(side: str, end: WireTensor) -> str:
    """Of the struct that commands.cpp reports: side, type, shape, bytes, scale ("0" without one), zero point."""
    shape = "x".join(map(str, end.shape)) or "1"
    return f'{{"{side}", "{end.kind}", "{shape}", {end.bytes}u, "{end.scale:.9g}", {end.zero_point}}}'


def _header(parts: Sequence[dict[str, str | int]]) -> str:
    lines = [PROVENANCE, "#ifndef KWS_MODEL_H", "#define KWS_MODEL_H", ""]
    for macros in parts:
        lines += [*(f"#define KWS_{key} {value}" for key, value in macros.items()), ""]
    return "\n".join([*lines, "#endif", ""])


def has_per_channel_dense(graph: Graph) -> bool:
    """True when a dense layer has several weight scales: the Arduino library's TFLM (2024) would read only the
    first."""
    return any(isinstance(layer, FullyConnected) and len(layer.weight_quant.scales) > 1 for layer in graph.layers)


def _model_macros(graph: Graph, name: str, spec: KwsSpec | None, int4: bool) -> dict[str, str | int]:
    x, y = graph.tensors[graph.input], graph.tensors[graph.output]
    operators = sorted({(layer.TFLITE.name, layer.TFLITE.resolver) for layer in graph_in_tflite(graph).layers})
    calls = " ".join(f"(r).{resolver}();" for _, resolver in operators)
    return {
        "MODEL_ID": _string(graph.model_id),
        "SPEC_ID": _string(spec.spec_id if spec else "none"),
        "MODEL_NAME": _string(name),
        "INPUT_BYTES": x.size,
        "OUTPUT_BYTES": y.size,
        "INPUT_SCALE": _float(x.quant.scale),
        "INPUT_ZERO_POINT": _int(x.quant.zero_point),
        "OUTPUT_SCALE": _float(y.quant.scale),
        "OUTPUT_ZERO_POINT": _int(y.quant.zero_point),
        "LAYERS": len(graph.layers),
        "TFLM_OPS": len(operators),
        "TFLM_ADD_OPS(r)": f"do {{ {calls} }} while (0)",
        "TFLM_ARENA_BYTES": tflm_arena_bytes(graph, int4),
        "TFLM_NEEDS_PER_CHANNEL_DENSE": int(has_per_channel_dense(graph)),
        "HAS_FRONTEND": int(spec is not None),
        **({"VARIABLES": len(graph.variables)} if graph.variables else {}),
    }


def _spec_macros(spec: KwsSpec, detector: DetectorSpec) -> dict[str, str | int]:
    features = spec.features
    rates = [
        f"{{{milli}u, {_braced(row)}}}" for milli, (_, row) in zip(detector.milli_rates, detector.rates, strict=True)
    ]
    return {
        "LABELS": len(spec.labels),
        "LABEL_NAMES": "{" + ", ".join(map(_string, spec.labels)) + "}",
        "SAMPLE_RATE_HZ": features.sample_rate_hz,
        "WINDOW_SAMPLES": features.window_samples,
        "STEP_SAMPLES": features.step_samples,
        "CLIP_SAMPLES": features.clip_samples,
        "FRAMES": features.frames,
        "CHANNELS": features.channels,
        "DETECT_HOP_FRAMES": detector.hop_frames,
        "DETECT_AVERAGE_COUNT": detector.average_count,
        "DETECT_SUPPRESS_FRAMES": detector.suppress_frames,
        "DETECT_SETTLE_FRAMES": detector.settle_frames,
        "DETECT_THRESHOLDS": _braced(detector.thresholds),
        "DETECT_RATE_COUNT": len(detector.rates),
        "DETECT_RATES": "{" + ", ".join(rates) + "}",  # without any there is no array: C has none of length 0
    }


def tflm_arena_bytes(graph: Graph, int4: bool = False) -> int:
    """A generous arena for TensorFlow Lite Micro with CMSIS-NN: live activations and a quarter more, scratch, records
    per layer.

    int4: also room for a layer's weights unpacked.
    """
    lasting = sum(layer.tflm_bytes(graph)[0] for layer in graph.layers)
    scratch = max((layer.tflm_bytes(graph)[1] for layer in graph_in_tflite(graph).layers), default=0)
    records = ARENA_FIXED_BYTES + ARENA_LAYER_BYTES * len(graph.layers) + lasting
    packed = [layer.weights.values.size for layer in graph.layers if layer.weights and fits_int4(layer)]
    unpacked = max(packed, default=0) if int4 else 0
    total = peak_activation_bytes(graph) * 5 // 4 + scratch + records + unpacked
    return -(-total // 1024) * 1024


def peak_activation_bytes(graph: Graph) -> int:
    """The most bytes of tensors alive at once, no two sharing memory."""
    last_use = {graph.output: len(graph.layers)}
    for step, layer in enumerate(graph.layers):
        for index in layer.inputs:
            last_use[index] = max(last_use.get(index, step), step)
    last_use |= {index: len(graph.layers) for v in graph.variables for index in (v.read, v.written)}
    first_use = {graph.input: -1, **{variable.read: -1 for variable in graph.variables}}
    first_use |= {layer.output: step for step, layer in enumerate(graph.layers)}
    return max(
        sum(
            graph.tensors[index].size
            for index, first in first_use.items()
            if first <= step <= last_use.get(index, first)
        )
        for step in range(len(graph.layers))
    )


def _braced(values: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


def _string(text: str) -> str:
    """A C string literal; anything beyond printable ASCII goes in as octal escapes of its UTF-8 bytes."""
    escaped = "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{escaped}"'


def _int(value: int) -> str:
    return str(value) if value >= 0 else f"({value})"


def _float(value: float) -> str:
    """A literal that reads back as the same float32."""
    text = np.format_float_scientific(np.float32(value), unique=True, trim="0")
    return f"{float(text)!r}f" if 1e-4 <= value < 1e7 else f"{text}f"
