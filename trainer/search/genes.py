"""What the search may change: chains of time convolutions without padding, which stream at no loss."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

from converter.spec import FeatureSpec
from trainer.errors import TrainerError
from trainer.network.model import Architecture, tcn_rows

FIRST_KERNELS = (3, 5, 7, 9)  # frames, stride 2
KERNELS = (3, 5, 7, 9, 11, 13, 15)
WIDTHS = tuple(range(16, 129, 8))  # the pointwise kernel's most inputs are 128
STAGES = (2, 3, 4)
LEAST_ROWS = 2  # before the dense layer
TRIES = 1000
SHARES = (7, 6, 5, 4, 3, 2, 1, 0)  # eighths of a chain's widths that are tried where it is too large


@dataclass(frozen=True, order=True)
class Genes:
    """Kernel and width of the first convolution, then of each depthwise-separable stage."""

    kernels: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def key(self) -> str:
        """A name.

        >>> Genes((3, 5, 7), (88, 64, 48)).key
        'k3-5-7_w88-64-48'
        """
        return "_".join(letter + "-".join(map(str, row)) for letter, row in zip("kw", astuple(self), strict=True))

    @property
    def options(self) -> str:
        """As `trainer train` takes them."""
        return f"--kernels {','.join(map(str, self.kernels))} --widths {','.join(map(str, self.widths))}"

    def rows(self, frames: int) -> int:
        """That are left before the dense layer."""
        return tcn_rows(frames, self.kernels)

    def is_valid(self, frames: int) -> bool:
        """In the ranges of the search, and short enough for a window of so many frames."""
        return (
            len(self.kernels) == len(self.widths)
            and len(self.kernels) - 1 in STAGES
            and self.kernels[0] in FIRST_KERNELS
            and all(kernel in KERNELS for kernel in self.kernels[1:])
            and all(width in WIDTHS for width in self.widths)
            and self.rows(frames) >= LEAST_ROWS
        )

    def architecture(self, labels: int, features: FeatureSpec, dropout: float) -> Architecture:
        """The tcn of these genes."""
        made = Architecture.of("tcn", labels, features, dropout)
        return replace(made, width=self.widths[0], widths=self.widths, kernels=self.kernels)

    def macs(self, labels: int, features: FeatureSpec) -> int:
        """Multiply-adds of a hop: one new row of every layer."""
        total = self.kernels[0] * features.channels * self.widths[0]
        for before, width, kernel in zip(self.widths, self.widths[1:], self.kernels[1:], strict=False):
            total += before * (kernel + width)
        return total + self.rows(features.frames) * self.widths[-1] * labels


# Networks of the field as chains, and this project's own (docs/spotter.md). Their depthwise kernels are cut to what a
# window of 49 frames holds, even ones are one longer; mixed kernels of one stage are stages of their own.
SEEDS = {
    "spotter": Genes((3, 5, 7, 9), (88, 88, 88, 88)),
    "MLPerf Tiny streaming": Genes((3, 5, 11), (128, 128, 128)),  # depthwise 3, 5, 10, 15 and 1 x 1 of 128
    "microWakeWord v2": Genes((3, 5, 9, 11), (48, 48, 48, 48)),  # mixed 5, 9, 13, 21 and 1 x 1 of 48
    "TC-ResNet8": Genes((3, 9, 9, 5), (16, 24, 32, 48)),  # 9, 9 a block, without the way round
}


def narrowed(genes: Genes, fits: Callable[[Genes], bool]) -> Genes | None:
    """The widest chain of the same kernels and proportions that fits; None where not even the narrowest does.

    >>> narrowed(Genes((3, 5), (128, 64)), lambda genes: sum(genes.widths) <= 150)
    Genes(kernels=(3, 5), widths=(96, 48))
    """
    if fits(genes):
        return genes
    for share in SHARES:
        less = replace(genes, widths=tuple(max(WIDTHS[0], width * share // 64 * 8) for width in genes.widths))
        if fits(less):
            return less
    return None


def random_genes(rng: random.Random, frames: int) -> Genes:
    """Any valid chain, every gene drawn alone; TrainerError for windows too short for most."""
    for _ in range(TRIES):
        stages = rng.choice(STAGES)
        kernels = (rng.choice(FIRST_KERNELS), *(rng.choice(KERNELS) for _ in range(stages)))
        found = Genes(kernels, tuple(rng.choice(WIDTHS) for _ in range(stages + 1)))
        if found.is_valid(frames):
            return found
    raise TrainerError(f"search: windows of {frames} frames are too short for chains of {min(STAGES)} stages and more")


def mutate(parent: Genes, rng: random.Random, frames: int) -> Genes:
    """One gene changed: a kernel, a width, or the number of stages by one (a copied stage put in behind it, or a stage
    taken out)."""
    for _ in range(TRIES):
        kernels, widths = list(parent.kernels), list(parent.widths)
        place = rng.randrange(len(kernels))
        match rng.choice(("kernel", "width", "more", "fewer")):
            case "kernel":
                kernels[place] = _next(FIRST_KERNELS if place == 0 else KERNELS, kernels[place], rng, 2)
            case "width":
                widths[place] = _next(WIDTHS, widths[place], rng, 4)
            case "more" if place:
                kernels.insert(place, kernels[place])
                widths.insert(place, widths[place])
            case "fewer" if place:
                del kernels[place], widths[place]
        found = Genes(tuple(kernels), tuple(widths))
        if found != parent and found.is_valid(frames):
            return found
    raise TrainerError(f"search: {parent.key} has no valid neighbour; report this")


def _next(values: tuple[int, ...], value: int, rng: random.Random, reach: int) -> int:
    """Another of these ordered values, at most `reach` places away."""
    place = values.index(value)
    return rng.choice([v for i, v in enumerate(values) if i != place and abs(i - place) <= reach])
