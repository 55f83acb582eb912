"""Weights and activations as floats of 3 to 8 bits, an accuracy study beside integers of the same width. No engine here
runs them.

A format eXmY has a sign, X exponent bits and Y mantissa bits. Values are rounded to the nearest, ties to even mantissas
(with no mantissa bits: up); what is too large becomes the largest finite value; below the smallest normal value the
step stays the same (subnormals). Source: OCP 8-bit Floating Point Specification 1.0 (e4m3, e5m2), OCP Microscaling
Formats 1.0 (e3m2, e2m3, e2m1).

mx-eXmY and mx-int8 are the latter's block formats: BLOCK values share a power of two as scale, 8 bits of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from converter.arrays import Json
from converter.run_folder import ModelArtifact
from converter.spec import FeatureSpec
from trainer.data.augment import LabelledClips, load_split, training_pool
from trainer.errors import TrainerError
from trainer.network.model import Conv, Dense, Network, fold_norms
from trainer.network.quant_options import MIN_SCALE, SEARCH_VALUES, least_error
from trainer.run.fit import THREADS, predict, to_batch
from trainer.run.steps import CACHE, Source, load_float, saved_settings

BLOCK, SCALE_TOP = 32, 127  # values that share a scale; E8M0 holds 2^-127 to 2^127
FORMATS = ("e4m3", "e5m2", "e3m4", "e2m5", "e3m2", "e2m3", "e2m2", "e3m1", "e2m1", "e3m0", "e1m2", "e2m0", "e1m1")
SHARED = ("mx-e4m3", "mx-e5m2", "mx-int8", "mx-e3m2", "mx-e2m3", "mx-e2m1")


@dataclass(frozen=True)
class Minifloat:
    """A floating-point format of 1 + exponent + mantissa bits."""

    exponent: int
    mantissa: int

    @staticmethod
    def of(name: str) -> Minifloat:
        """The format of a name such as e4m3; raises TrainerError for no such format."""
        found = re.fullmatch(r"e([1-8])m(\d)", name)
        if not found or not 3 <= 1 + int(found[1]) + int(found[2]) <= 8:
            raise TrainerError(
                f"--formats: must be like e4m3, a sign, 1 to 8 exponent bits and mantissa bits, 3 to 8 in all; got "
                f"{name}"
            )
        return Minifloat(int(found[1]), int(found[2]))

    @property
    def bits(self) -> int:
        """Width, the sign among them."""
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        """Of the exponent."""
        return (1 << (self.exponent - 1)) - 1

    @property
    def top(self) -> float:
        """The largest finite value: e5m2 gives its last exponent to infinity and NaN, e4m3 its last code to NaN, others
        none.

        >>> [Minifloat.of(n).top for n in ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")]
        [448.0, 57344.0, 28.0, 7.5, 6.0]
        """
        special = (self.exponent, self.mantissa) == (5, 2)
        last = (1 << self.exponent) - 1 - self.bias - special
        fraction = 2.0 - 2.0 ** -(self.mantissa - 1 if (self.exponent, self.mantissa) == (4, 3) else self.mantissa)
        return float(fraction * 2.0**last)

    def round(self, x: Tensor) -> Tensor:
        """x rounded to values of this format, saturating.

        >>> Minifloat.of("e2m1").round(torch.tensor([0.2, 0.25, 0.75, 2.5, 5.0, -9.0])).tolist()
        [0.0, 0.0, 1.0, 2.0, 4.0, -6.0]
        """
        exponent = (torch.frexp(x).exponent - 1).clamp(min=1 - self.bias)
        step = torch.ldexp(torch.ones_like(x), exponent - self.mantissa)
        return (torch.round(x / step) * step).clamp(-self.top, self.top)


@dataclass(frozen=True)
class Grid:
    """Values that a tensor divided by its scale may have: `round` gives the nearest, `top` is the largest."""

    round: Callable[[Tensor], Tensor]
    top: float


def float_grid(format_: Minifloat) -> Grid:
    """The values of a format."""
    return Grid(format_.round, format_.top)


def integer_grid(bits: int, signed: bool) -> Grid:
    """b-bit integers: symmetric ones for weights, unsigned ones for what a ReLU leaves."""
    top = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    return Grid(lambda x: torch.clamp(torch.round(x), -top if signed else 0, top), float(top))


@dataclass(frozen=True)
class Shared:
    """Elements of a grid in blocks of BLOCK, each with the scale 2^(floor(log2 of its largest) - floor(log2 of the
    grid's top)), as section 6.3 of OCP Microscaling Formats 1.0 converts."""

    grid: Grid

    def round(self, rows: Tensor) -> Tensor:
        """Rows [n, k] rounded, blocks along k; the last block of a row may be shorter.

        >>> Shared(float_grid(Minifloat.of("e2m1"))).round(torch.tensor([[7.9, 1.1, 0.3, -5.0]])).tolist()
        [[6.0, 1.0, 0.5, -4.0]]
        """
        padded = nn.functional.pad(rows, (0, -rows.shape[1] % BLOCK)).view(len(rows), -1, BLOCK)
        largest = padded.abs().amax(2, keepdim=True)
        exponent = torch.frexp(largest).exponent - torch.frexp(torch.tensor(self.grid.top)).exponent
        exponent = exponent.clamp(-SCALE_TOP, SCALE_TOP)
        scale = torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), exponent), 1.0)
        return (self.grid.round(padded / scale) * scale).view(len(rows), -1)[:, : rows.shape[1]]


def shared(element: str) -> Shared:
    """The block format of these elements: a minifloat's name, or int8, a sign and 7 bits in steps of 1/64."""
    if element == "int8":
        return Shared(Grid(lambda x: torch.clamp(torch.round(x * 64), -127, 127) / 64, 127 / 64))
    return Shared(float_grid(Minifloat.of(element)))


def least_scale(rows: Tensor, grid: Grid) -> Tensor:
    """One scale per row of [n, k], of least squared error."""

    def error(tops: Tensor) -> Tensor:
        scale = (tops / grid.top).clamp(min=MIN_SCALE)[:, None]
        return ((grid.round(rows / scale) * scale - rows) ** 2).mean(1)

    return (least_error(rows.abs().amax(1), error) / grid.top).clamp(min=MIN_SCALE)


class Rounded(nn.Module):
    """A network whose weights, and if asked for hidden activations, lie on a grid with a scale of least error.

    As with integers: convolutions have a scale per output channel, dense layers one; features keep their int8 values,
    biases and logits are float32. Activation scales come from a calibration batch, layer after layer. Blocks of shared
    scales need neither: they run along a layer's inputs to one output, and along channels, then places.
    """

    def __init__(
        self, network: Network, weights: Grid | Shared, hidden: Grid | Shared | None, calibration: Tensor
    ) -> None:
        super().__init__()
        if network.architecture.layers:
            raise TrainerError("minifloat: takes runs of the project's networks, got one of a network of one's own")
        self.network, self.hidden = fold_norms(network).eval(), hidden
        self.scales: dict[str, Tensor] = {}
        with torch.no_grad():
            for block in self.network.blocks.values():
                if isinstance(block, (Conv, Dense)):
                    if isinstance(weights, Shared):
                        block.weight.copy_(weights.round(block.weight.flatten(1)).view_as(block.weight))
                        continue
                    rows = block.weight.flatten(1) if isinstance(block, Conv) else block.weight.reshape(1, -1)
                    scale = least_scale(rows, weights)[:, None]
                    block.weight.copy_((weights.round(rows / scale) * scale).view_as(block.weight))
            self(calibration)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, labels]; the first call finds the activations' scales."""
        for name, block in self.network.blocks.items():
            x = block(x)
            if self.hidden and isinstance(block, (Conv, Dense)) and block.activation:
                if isinstance(self.hidden, Shared):
                    last = x.movedim(1, -1)
                    x = self.hidden.round(last.flatten(1)).view_as(last).movedim(-1, 1)
                    continue
                if name not in self.scales:
                    flat = x.reshape(1, -1)
                    self.scales[name] = least_scale(flat[:, :: max(1, flat.shape[1] // SEARCH_VALUES)], self.hidden)
                x = self.hidden.round(x / self.scales[name]) * self.scales[name]
        return x


def minifloat_study(runs: Sequence[Path], formats: Sequence[str], source: Source | None, progress: Progress) -> Json:
    """Per run the test accuracy of float32, of each format and of integers as wide: of weights, and of hidden
    activations too."""
    torch.set_num_threads(THREADS)
    bits = {name: 8 if name == "mx-int8" else Minifloat.of(name.removeprefix("mx-")).bits for name in formats}
    ways: dict[str, tuple[Grid | Shared, Grid | Shared]] = {}
    for name in formats:
        rule = shared(name[3:]) if name.startswith("mx-") else float_grid(Minifloat.of(name))
        ways[name] = rule, rule
    for b in sorted(set(bits.values())):
        ways[f"int{b}"] = integer_grid(b, signed=True), integer_grid(b, signed=False)
    task = progress.add_task("minifloat", total=len(runs) * len(ways))
    tops = {
        name: weights.grid.top if isinstance(weights, Shared) else weights.top for name, (weights, _) in ways.items()
    }
    found: Json = {"formats": bits, "largest": tops, "runs": []}
    for run in runs:
        artifact = ModelArtifact.load(run)
        selection = (source or Source.load(run)).selection(artifact.spec, progress)
        test = load_split(selection, "test", CACHE, progress)
        pool = training_pool(selection, saved_settings(artifact).augment, CACHE, progress)
        clips = to_batch(pool.calibration(), artifact.spec.features)
        network, spec = load_float(artifact), artifact.spec.features

        def accuracy(net: nn.Module, test: LabelledClips = test, spec: FeatureSpec = spec) -> float:
            return round(100 * float((predict(net, test.features, spec).argmax(1).numpy() == test.labels).mean()), 2)

        facts: Json = {
            "model": artifact.model,
            "seed": artifact.seed,
            "n": len(test.labels),
            "smoke_test": artifact.is_smoke_test,
            "float32": accuracy(network),
        }
        for name, (weights, hidden) in ways.items():
            facts[name] = [accuracy(Rounded(network, weights, h, clips)) for h in (None, hidden)]
            progress.advance(task)
        found["runs"].append(facts)
    return found


def table(found: Json) -> str:
    """The study in Markdown: one row per format, beside the integers of its width; means of the runs."""
    runs = found["runs"]
    mean = {k: np.mean([r[k] for r in runs], axis=0) for k in runs[0] if k == "float32" or isinstance(runs[0][k], list)}
    said = "smoke test on synthetic speech" if runs[0]["smoke_test"] else "accuracy on the test split"
    lines = [
        f"{runs[0]['model']}: {said} in %, n = {runs[0]['n']}, seeds {', '.join(str(r['seed']) for r in runs)} (mean). "
        f"float32: {mean['float32']:.2f}.",
        "",
        "| bits | format | largest | weights | and activations | integer: weights | and activations |",
        "|---" * 7 + "|",
    ]
    for name, bits in found["formats"].items():
        figures = [f"{v:.2f}" for v in (*mean[name], *mean[f"int{bits}"])]
        lines.append("| " + " | ".join([str(bits), name, f"{found['largest'][name]:g}", *figures]) + " |")
    return "\n".join(lines) + "\n"
