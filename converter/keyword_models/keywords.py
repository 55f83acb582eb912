"""Another's keyword model that is to listen: the words its outputs mean, and the features it was trained on.

A .tflite does not say them. Input and output grids are the model's own; the rest is FeatureSpec's.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from converter.check import check_spec
from converter.checked import Fields, check, json_in
from converter.errors import ConvertError, require
from converter.graph import Graph
from converter.keyword_models.wake_word import require_probability
from converter.spec import FEATURE_RULES, FeatureSpec, KwsSpec, SpecError

PRESETS = {  # TensorFlow Lite Micro's micro_speech, and the same front end at a step of 10 ms
    "micro20": FeatureSpec(),
    "micro10": FeatureSpec(step_ms=10),
}
NOT_NAMED = ("sample_rate_hz", "clip_ms", "scale", "zero_point")  # the board has one rate; the rest is the model's


def read_features(name: str) -> FeatureSpec:
    """A preset, or a .json of settings of FeatureSpec, those it leaves out as they are there; raises ConvertError."""
    if name in PRESETS:
        return PRESETS[name]
    rules = {key: rule for key, rule in FEATURE_RULES.items() if key not in NOT_NAMED}
    try:
        raw = json_in(Path(name))
        check(name, raw, Fields({}, rules, closed=True))
        return replace(PRESETS["micro20"], **raw, clip_ms=60_000)
    except (OSError, ValueError) as error:
        raise ConvertError(
            f'features: {error}; name {", ".join(PRESETS)} or a .json of settings such as {{"step_ms": 10}}'
        ) from None


def listening(graph: Graph, words: tuple[str, ...], features: FeatureSpec) -> Graph:
    """The graph that knows what it hears; raises ConvertError where input and outputs cannot be of these features and
    of silence, unknown and these words, or the probability of the one word."""
    x = graph.tensors[graph.input]
    if graph.spec_json:
        raise ConvertError("the model says its own words and features; leave --words out")
    frames, rest = divmod(x.size, features.channels)
    rows = [size for size in x.shape if size > 1]
    told = f"features are frames of {features.channels} channels, the model's input is {x.shape}; name --features"
    require(not rest and (len(rows) < 2 or rows == [frames, features.channels]), x.name, told)
    y = graph.tensors[graph.output]
    if y.size == 1:
        require_probability(y)
    require(
        x.quant.zero_point == -128, x.name, f"features begin at -128, the input's zero point is {x.quant.zero_point}"
    )
    exact = features.window_ms + (frames - 1) * features.step_ms
    same = np.float32(x.quant.scale) == np.float32(FeatureSpec.scale)
    try:
        heard = replace(features, clip_ms=exact, scale=FeatureSpec.scale if same else x.quant.scale)
        seconds = replace(heard, clip_ms=1000 * math.ceil(exact / 1000))  # a clip is whole seconds where it can be
        labels = KwsSpec.of_words(words).labels
        spec = KwsSpec(labels, seconds if seconds.frames == frames else heard)
    except SpecError as error:
        raise ConvertError(str(error)) from None
    return check_spec(replace(graph, spec_json=spec.to_json()))
