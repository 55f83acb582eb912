"""microWakeWord's models: the .json that comes with each says what its .tflite hears and when it names its word.

Features are TFLM's micro front end at a step of 10 ms (the first version's 20), as int8 by the rule of FeatureSpec. The
model keeps the frames before in variables, so an inference takes its input's new frames only, and gives one number,
the probability in steps of 1/256. Named is the word where the mean of the last probabilities is above the cutoff.
Source: ESPHome, micro_wake_word (esphome.io/components/micro_wake_word), and the package pymicro-wakeword.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from converter.check import check_spec
from converter.checked import Choice, Fields, Real, Text, Whole, check, json_in
from converter.errors import ConvertError, require
from converter.graph import Graph
from converter.spec import MAX_LABEL_BYTES, SILENCE, UNKNOWN, DetectorSpec, FeatureSpec, KwsSpec, SpecError
from converter.tensor import Tensor

REST_S = 1.0  # after its start, and after a word, in which no word is named
FIRST_VERSION_STEP_MS = 20  # whose .json does not say it
_MANIFEST = Fields(
    {
        "type": Choice(("micro",)),
        "wake_word": Text(MAX_LABEL_BYTES),
        "model": Text(255),
        "micro": Fields(
            {"probability_cutoff": Real(0, 1)},
            {
                "sliding_window_size": Whole(1, 64),
                "sliding_window_average_size": Whole(1, 64),  # the first version's name of it
                "feature_step_size": Whole(1, 1000),
            },
        ),
    }
)


@dataclass(frozen=True)
class WakeWord:
    """A manifest: the word, its model's file, the mean of how many probabilities must lie above which cutoff."""

    word: str
    model: Path
    step_ms: int
    average_count: int
    cutoff: float

    def spec(self, graph: Graph) -> KwsSpec:
        """What the graph hears; raises ConvertError where it cannot be such a model."""
        x, y = graph.tensors[graph.input], graph.tensors[graph.output]
        require(len(x.shape) == 3 and bool(graph.variables), x.name, "a wake word's model takes [1, frames, channels]")
        require_probability(y)
        _, frames, channels = x.shape
        plain = FeatureSpec(step_ms=self.step_ms)
        clip_ms = plain.window_ms + (frames - 1) * self.step_ms
        try:
            features = replace(plain, clip_ms=clip_ms, channels=channels, scale=x.quant.scale)
            self.detector(graph)  # raises for an input of more frames than a hop may have
            return KwsSpec((SILENCE, UNKNOWN, self.word), features)
        except SpecError as error:
            raise ConvertError(f"{self.model.name}: {error}") from None

    def detector(self, graph: Graph) -> DetectorSpec:
        """The same decision on sums of probabilities, that is of output + 128."""
        frames, least = graph.tensors[graph.input].shape[1], least_sum(self.cutoff, self.average_count)
        rest = round(REST_S * 1000 / self.step_ms)
        return DetectorSpec((least,), frames, self.average_count, suppress_frames=rest, settle_frames=rest)


def least_sum(cutoff: float, count: int) -> int:
    """The least sum of `count` probabilities of 1/256 whose mean lies above the cutoff, at most the highest there is.

    >>> least_sum(0.5, 4), least_sum(1.0, 4)
    (513, 1020)
    """
    highest = 255 * count
    return next((total for total in range(highest) if total > cutoff * 256 * count), highest)


def read_wake_word(file: Path) -> WakeWord:
    """The manifest in a .json; raises ConvertError."""
    try:
        raw = json_in(file)
        check(file.name, raw, _MANIFEST)
        KwsSpec((SILENCE, UNKNOWN, raw["wake_word"]))  # raises for what cannot be a word
    except (OSError, ValueError) as error:
        raise ConvertError(f"{file}: is no microWakeWord manifest ({error}); give the .json beside its model") from None
    micro, name = raw["micro"], Path(raw["model"])
    if len(name.parts) != 1:
        raise ConvertError(f"{file}: its model must lie beside it, got {str(name)[:80]}; put both into one folder")
    count = micro.get("sliding_window_size", micro.get("sliding_window_average_size"))
    if count is None:
        raise ConvertError(f"{file}: says no sliding_window_size; the mean of how many probabilities decides?")
    step_ms = micro.get("feature_step_size", FIRST_VERSION_STEP_MS)
    return WakeWord(raw["wake_word"], file.parent / name, step_ms, count, micro["probability_cutoff"])


def require_probability(y: Tensor) -> None:
    """ConvertError unless the output is one probability as the detector takes it."""
    fits = y.size == 1 and abs(y.quant.scale * 256 - 1) < 1e-6 and y.quant.zero_point == -128
    require(fits, y.name, "must be one probability in steps of 1/256 from -128")


def with_spec(graph: Graph, word: WakeWord) -> Graph:
    """The graph that knows what it hears."""
    return check_spec(replace(graph, spec_json=word.spec(graph).to_json()))
