"""Tables and the picture of what trainer/run/false_accepts.py measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from converter.commands import cli
from converter.run_folder import ModelArtifact

LONG = ("curve", "other_words")  # what artifact.json does not keep
LEAST_CLIPS = 10  # of a word that is not the model's own, to be named


def show_streams(artifact: ModelArtifact, found: dict[str, Any], console: Console) -> None:
    """Print the operating points, the sources, the conditions and what other words are taken for."""
    smoke = "smoke test, " if artifact.is_smoke_test else ""
    n, hours = found["conditions"][0]["words"], found["hours"]
    console.print(
        f"{smoke}listening: {hours:.2f} hours of {found['speakers']} speakers or groups without the words, {n} "
        f"test clips of the words from {found['words_from']}; int8 by {found['engine']}"
    )
    names = list(found["shipped"]["misses"])
    heads = ("", "n", "bound", *(name.replace(" ", "\n", 1) for name in names))
    title = f"words missed, %, by n false accepts in {hours:.2f} h (bound: 95 %, per hour)"
    points = cli.table(title, heads, heads[:1])
    points.columns[0].min_width = 11
    for title, point in _points(found):
        misses = [f"{100 * point['misses'][name] / n:.1f}" for name in names]
        if all(missed == n for missed in point["misses"].values()):
            title = f"{title}: hearing nothing"
        points.add_row(title, str(point["false_accepts"]), f"{point['bound']:.2f}", *misses)
    console.print(points)

    heads = ("source", "speaker", "language", "licence", "hours", "n", "per h", "bound", *artifact.spec.words)
    sources = cli.table("false accepts at the shipped thresholds, by source and word named", heads, heads[:4])
    for s in found["sources"]:
        rates = (f"{s['hours']:.2f}", f"{s['false_accepts']}", f"{s['per_hour']:.2f}", f"{s['bound']:.2f}")
        counts = (str(s["per_word"][word]) for word in artifact.spec.words)
        sources.add_row(s["name"], s["speaker"], s["language"], s["licence"], *rates, *counts)
    console.print(sources)

    heads = ("condition", "missed", "%", *artifact.spec.words, "confusions", "false accepts")
    conditions = cli.table("words missed at the shipped thresholds", heads, heads[:1])
    for c in found["conditions"]:
        per_word = (f"{c['per_word'][w]} of {c['words_per_word'][w]}" for w in artifact.spec.words)
        missed = (f"{c['misses']} of {c['words']}", f"{100 * c['misses'] / c['words']:.1f}")
        conditions.add_row(c["name"], *missed, *per_word, str(c["confusions"]), str(c["false_accepts"]))
    console.print(conditions)
    for c in found.get("voices", ()):
        console.print(f"{c['name']}, which are no people: {c['misses']} of {c['words']} words missed")
    _show_others(found["other_words"], console)
    for reason in found["skipped"]:
        console.print(f"not measured: {reason}")


def _points(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The shipped point, the rows of the board's rate table, then the others by rate; rates that one shift meets stand
    in one row."""
    yield "shipped", found["shipped"]
    for row in found.get("tuned", ()):
        yield f"row {row['rate']:g}", row
    for title, points in (("at most", found["points"]), ("float, at most", found.get("float", []))):
        for place, point in enumerate(points):
            if place + 1 == len(points) or points[place + 1]["shift"] != point["shift"]:
                rates = [p["at_most"] for p in points if p["shift"] == point["shift"]]
                yield f"{title} " + ", ".join(f"{rate:g}" for rate in rates), point


def _show_others(others: list[dict[str, Any]], console: Console) -> None:
    if not others:
        return
    n, taken = sum(o["n"] for o in others), sum(o["taken"] for o in others)
    heads = ("word", "clips", "taken", "%", "for")
    table = cli.table(
        f"other words, {n} test clips played alone, clean: {taken} taken for a word", heads, ("word", "for")
    )
    named = [o for o in others if o["n"] >= LEAST_CLIPS and o["taken"]]
    for o in sorted(named, key=lambda o: (-o["taken"] / o["n"], o["word"])):
        taken_for = ", ".join(f"{word} {count}" for word, count in o["as"].items())
        table.add_row(o["word"], str(o["n"]), str(o["taken"]), f"{100 * o['taken'] / o['n']:.1f}", taken_for)
    never = sum(o["n"] >= LEAST_CLIPS and not o["taken"] for o in others)
    few = sum(o["n"] < LEAST_CLIPS for o in others)
    table.caption = f"never taken: {never} words; not named, fewer than {LEAST_CLIPS} clips: {few} words"
    console.print(table)


def picture(artifact: ModelArtifact, found: dict[str, Any]) -> bytes:
    """The curve as PNG: a line a condition, the shipped point marked."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    n, hours, curve = found["conditions"][0]["words"], found["hours"], found["curve"]
    drawn = slice(*curve["drawn"])
    rates = [max(total, 0.5) / hours for total in curve["total"][drawn]]
    shipped = max(found["shipped"]["false_accepts"], 0.5) / hours
    figure, axis = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
    styles = {"clean": "-", "noise": "--", "babble": ":"}
    for name, row in curve["misses"].items():
        missed = [100 * misses / n for misses in row[drawn]]
        (line,) = axis.plot(rates, missed, styles[name.split()[0]], label=name)
        axis.plot(shipped, 100 * found["shipped"]["misses"][name] / n, "o", color=line.get_color())
    smoke = "smoke test, " if artifact.is_smoke_test else ""
    axis.set(
        xscale="log",
        xlabel="false accepts per hour (none drawn as half a one)",
        ylabel=f"words missed, % of {n}",
        ylim=(0, None),
        title=f"{smoke}{', '.join(artifact.spec.words)}: {hours:.2f} hours without the words; dots: as shipped",
    )
    axis.axvline(shipped, color="grey", linewidth=0.8)
    axis.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper")
    data = io.BytesIO()
    figure.savefig(data, dpi=110)
    pyplot.close(figure)
    return data.getvalue()
