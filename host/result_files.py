"""The JSON files that commands write and reports read: what each must hold, checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from converter.arrays import Json
from converter.checked import Anything, Fields, Flag, Items, Maybe, Named, Real, Rule, Text, Whole, check, json_in
from host.errors import HostError

_NAME, _PROSE, _COUNTS = Text(), Text(1 << 16), Named(Whole())
_PERCENT = Real(0, 100)
_U32 = Whole(0, (1 << 32) - 1)

_SCORES = Fields(
    {"accuracy": _PERCENT, "n": Whole(), "per_class": Items(_PERCENT), "per_class_n": Items(Whole())},
    {"confusion": Items(Items(Whole()))},
)
_CONDITION = Fields({"name": _NAME, "words": Whole(1), "misses": Whole(), "confusions": Whole(), "per_word": _COUNTS})
_NEGATIVE = Fields(
    {
        **dict.fromkeys(("name", "speaker", "language", "licence"), _NAME),
        **dict.fromkeys(("hours", "per_hour", "bound"), Real()),
        **{"false_accepts": Whole(), "per_word": _COUNTS},
    }
)
_OTHER_WORD = Fields({"word": _NAME, "n": Whole(1), "taken": Whole(), "as": _COUNTS})
_STREAMS = Fields(
    {
        "engine": _NAME,
        "hours": Real(1e-6),
        "speakers": Whole(),
        "conditions": Items(_CONDITION, 1),
        "sources": Items(_NEGATIVE),
        "other_words": Items(_OTHER_WORD),
        "shipped": Fields({"false_accepts": Whole(), "per_hour": Real(), "bound": Real(), "misses": _COUNTS}),
        "curve": Fields(
            {"total": Items(Whole()), "misses": Named(Items(Whole())), "drawn": Items(Whole(), 2, 2)},
        ),
    },
    {"voices": Items(_CONDITION)},
)
EVALUATION = Fields(
    {"labels": Items(_NAME, 1, 1000), "engines": Named(Named(_SCORES), 1)},
    {
        "float_to_int8": Fields(
            {"n": Whole(), "gained": Whole(), "lost": Whole(), "net_loss_points": Real(-100, 100)},
        ),
        "listening": Fields(
            {
                **dict.fromkeys(("heard", "words", "false_accepts"), Whole()),
                **{"seconds": Real(), "miss_rate": Real(0, 1), "false_accepts_per_hour": Real()},
            }
        ),
        "listening_streams": _STREAMS,
    },
)
_STAGE = Fields(
    {
        **{"name": _NAME, "work": _NAME, "n": Whole(1)},
        **dict.fromkeys(("min_us", "max_us", "mean_us", "mean_ms"), Real()),
        **dict.fromkeys(("min_ms", "max_ms"), Whole()),
    }
)
PROFILE = Fields(
    {
        "identity": Fields(
            {**dict.fromkeys(("spec_id", "model_id", "board", "engine"), _NAME), "clock_hz": Whole(1, 10**10)}
        ),
        "modelled": Flag(),
        "stages": Items(_STAGE, 1),
        "uncached": Items(_STAGE, 1),
        "layers": Items(Fields({"name": _NAME, "cycles": Whole(), "crc32": Maybe(_U32)})),
        "memory": Fields(dict.fromkeys(("flash", "static_ram", "arena", "stack_high_water"), _U32)),
    }
)
_ATTEMPT = Fields(
    {
        **dict.fromkeys(("file", "expected", "heard"), Text(1 << 12)),
        **{"margin": Whole(-(1 << 31), 1 << 31), "right": Flag(), "different": Whole()},
    }
)
TRIAL = Fields({"attempts": Items(_ATTEMPT), "right": Whole(), "n": Whole(), "different": Whole()})
_TIMING = Fields(
    {"engine": _NAME, "note": _PROSE, "n": Whole(), "median_us": Maybe(Real()), "slowdown_of_board": Maybe(Real())}
)
COMPARE = Fields({"timings": Items(_TIMING)})
_CHECK = Fields(
    {"claim": _NAME, "status": _NAME, "unit": _NAME, "detail": _PROSE, "checked": Whole(), "differences": Whole()}
)
CHECKS = Fields({"model_id": _NAME, "differs": Flag(), "checks": Items(_CHECK)})
_POINT = Fields(
    {
        **dict.fromkeys(("key", "model", "kind", "method"), Text(200)),
        **{"seed": Whole(), "amount": Real(0, 1e6), "finetune": Whole(), "bits": Whole(1, 32)},
    }
)
SWEEP = Fields({"points": Items(_POINT), "words": Items(_NAME, 1, 1000), "smoke_test": Flag()})
SWEEP_POINT = Fields(
    {},
    {
        "error": _PROSE,
        "train": Fields({"accuracy": _PERCENT, "n": Whole(1)}),
        "board": Named(Anything()),
        "commands": Items(_PROSE),
    },
)
SWEEP_FLOAT = Fields({"model": _NAME, "accuracy": _PERCENT})


def read_json(file: Path, fix: str, rule: Rule) -> Json:
    """The JSON object of a file that keeps the rule and its relations; raises HostError, which ends with `fix`."""
    try:
        found = json_in(file)
    except OSError as error:
        raise HostError(f"{file}: no readable JSON ({error.strerror}); {fix}") from None
    except ValueError as error:
        raise HostError(f"{file}: no readable JSON ({error}); {fix}") from None
    check("", found, rule, lambda told: HostError(f"{file}: {told}; {fix}"))
    for of, relation in _RELATIONS:
        if of is rule and (broken := relation(found)):
            raise HostError(f"{file}: {broken}; {fix}")
    return dict(found)


def _evaluation(found: Json) -> str:
    count = len(found["labels"])
    for engine, splits in found["engines"].items():
        for split, scores in splits.items():
            rows = [scores["per_class"], scores["per_class_n"], *scores.get("confusion", [])]
            if any(len(row) != count for row in rows) or len(scores.get("confusion", rows[:1] * count)) != count:
                return f"engines.{engine}.{split}: must have one figure for each of {count} labels, and has not"
    if "listening_streams" in found:
        streams = found["listening_streams"]
        curve, shipped = streams["curve"], streams["shipped"]["misses"]
        if any(len(row) != len(curve["total"]) for row in curve["misses"].values()):
            return "listening_streams.curve: must have as many misses of each condition as totals, and has not"
        if not {"clean", "noise 10 dB"} <= set(shipped) or not set(curve["misses"]) <= set(shipped):
            return f"listening_streams.shipped.misses: must hold every condition of the curve, got {', '.join(shipped)}"
    return ""


def _profile(found: Json) -> str:
    for kind in ("stages", "uncached"):
        for stage in found[kind]:
            if not stage["min_us"] <= stage["mean_us"] * (1 + 1e-9) or not stage["mean_us"] <= stage["max_us"] * (
                1 + 1e-9
            ):
                return f"{kind}: the mean of {stage['name'][:60]} must lie between minimum and maximum, and does not"
    names = [[stage["name"] for stage in found[kind]] for kind in ("stages", "uncached")]
    if names[0] != names[1] or "inference" not in names[0]:
        return "uncached: must hold the same stages as `stages`, `inference` among them, and does not"
    return ""


def _trial(found: Json) -> str:
    if not found["right"] <= found["n"] == len(found["attempts"]):
        return f"n: must count the {len(found['attempts'])} attempts, got {found['n']}, {found['right']} of them right"
    return ""


def _sweep(found: Json) -> str:
    for point in found["points"]:
        if Path(point["key"]).name != point["key"] or "\\" in point["key"] or not point["key"].isprintable():
            return f"points: a key is the name of a folder, got {point['key'][:60]!r}"
    return ""


_RELATIONS: tuple[tuple[Rule, Callable[[Json], str]], ...] = (
    (EVALUATION, _evaluation),
    (PROFILE, _profile),
    (TRIAL, _trial),
    (SWEEP, _sweep),
)
