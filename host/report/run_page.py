"""One self-contained HTML file about a run: what it hears, how fast, how large, and what was proven equal. No network,
no scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from converter.arrays import Json
from converter.checked import Rule
from converter.commands.html import Markup, Part, Picture, Section, Table, page
from converter.files import write_atomic
from converter.run_folder import ModelArtifact
from converter.size import model_size
from converter.target import NRF52840
from host.errors import HostError
from host.link.expected import load_model
from host.measure.energy import modelled_energy_uj
from host.report.svg_chart import COLOURS, Dot, Series, bars, chart
from host.result_files import CHECKS, COMPARE, EVALUATION, PROFILE, TRIAL, read_json

Parts = list[Part]


def write_report(
    run: Path,
    out: Path | None = None,
    profile: Path | None = None,
    trial: Path | None = None,
    compare: Path | None = None,
    checks: Path | None = None,
) -> Path:
    """Writes RUN/report.html (or `out`) from the run folder and the JSON results named; what is missing is said, not
    left out."""
    artifact = ModelArtifact.load(run)
    target = out or run / "report.html"
    scores = run / "evaluation.json" if (run / "evaluation.json").is_file() else None
    read: list[tuple[str, Path | None, Rule, str, str, Callable[[Json], Parts]]] = [
        (
            "Smoke test" if artifact.is_smoke_test else "Accuracy",
            *(scores, EVALUATION, "scores on validation and test clips", f"trainer evaluate {run.name}"),
            lambda found: [*_evaluation(found), *_curves(run)],
        ),
        (
            "False accepts and misses",
            *(scores, EVALUATION, "hours of speech", f"trainer evaluate {run.name} --negative DIR"),
            lambda found: _listening(found, artifact),
        ),
        (
            "Time on the board",
            *(profile, PROFILE, "stages and layers", "host profile PORT --json F; report --profile F"),
            lambda found: _stages(found, artifact),
        ),
        ("Spoken-word trial", trial, TRIAL, "words played", "host trial PORT WAVS --json F; report --trial F", _trial),
        (
            "This machine and the board",
            compare,
            COMPARE,
            "times",
            "host compare RUN --json F; report --compare F",
            _compare,
        ),
        (
            "Equivalence checks",
            checks,
            CHECKS,
            "the checks",
            "converter verify RUN --json F; report --checks F",
            _checks,
        ),
    ]
    sections = [
        Section(name, _read(file, rule, what, f"python -m {fix}", make)) for name, file, rule, what, fix, make in read
    ]
    sections.insert(3, Section("Size of the network", _sizes(artifact)))
    title = f"{artifact.model}: {', '.join(artifact.spec.words)}"
    fix = f"python -m trainer evaluate {run.name}"
    lead = _read(scores, EVALUATION, "scores", fix, lambda found: [_lead(found, artifact)])
    if profile is not None:
        fix = "python -m host profile PORT --json F"
        lead += _read(profile, PROFILE, "stages and layers", fix, lambda found: [_cost(found)])
    write_atomic(
        target,
        page(
            title, [*(lead if scores or profile else []), *_head(artifact)], sections, heading=artifact.model
        ).encode(),
    )
    return target


def _read(file: Path | None, rule: Rule, what: str, command: str, make: Callable[[Json], Parts]) -> Parts:
    """What a section shows of a JSON file; HostError where the file is not as `command` writes it."""
    if file is None:
        return [_missing(what, command)]
    fix = f"make it again with `{command.split(';')[0]}`"
    found = read_json(file, fix, rule)
    try:
        return make(found)
    except HostError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        wrong = f"{type(error).__name__}: {error}"
        raise HostError(f"{file}: does not hold {what} as this version writes them ({wrong}); {fix}") from None


def _missing(what: str, command: str) -> Markup:
    return Markup("<p class=note>Not measured: {}. <code>{}</code></p>").format(what, command)


def _good(holds: bool, otherwise: str) -> str:
    return "yes" if holds else Markup("<span class=bad>{}</span>").format(otherwise)


def _head(artifact: ModelArtifact) -> Parts:
    d = artifact.detector
    facts = [
        ("words", ", ".join(artifact.spec.words)),
        ("data", artifact.data),
        ("seed", artifact.seed),
        ("spec id", artifact.spec.spec_id),
        ("model id", load_model(artifact.path).graph.model_id if artifact.onnx.is_file() else "not exported"),
        (
            "detector",
            f"an inference every {d.hop_frames} frames, evidence of {d.average_count} summed, thresholds "
            f"{', '.join(map(str, d.thresholds))} of {d.highest_sum}, {d.suppress_frames} frames of rest after a word, "
            f"{d.settle_frames} at the start",
        ),
    ]
    smoke = Markup(
        "<p class=smoke>Trained on synthetic speech: every score on this page is a <b>smoke test</b>, not an "
        "accuracy.</p>"
    )
    return [*([smoke] if artifact.is_smoke_test else []), Table(("", ""), facts, left=True)]


def _lead(found: Json, artifact: ModelArtifact) -> Markup:
    """What a reader wants first: what it hears, what it misses, how often it is wrong."""
    words = Markup("<b>{}</b>").format(", ".join(artifact.spec.words))
    if "listening_streams" not in found:
        return Markup("<p>Hears {}.</p>").format(words)
    heard = found["listening_streams"]
    shipped, n = heard["shipped"], heard["conditions"][0]["words"]
    named = {"clean": "clean", "noise 10 dB": "at 10 dB of noise"}
    missed = [f"{100 * shipped['misses'][key] / n:.1f} % {text}" for key, text in named.items()]
    own = artifact.results.get("split") == "take"
    people = " The test clips are other takes of the people it learned from: how others are heard is not known."
    return Markup(
        "<p>{}Hears {}. Misses <b>{}</b> of {} test clips.{} <b>{} false accepts per hour</b> (95 % bound {}) in "
        "{:.1f} hours of speech without the words, {} speakers or groups of speakers.</p>"
    ).format(
        "Smoke test: " if artifact.is_smoke_test else "",
        words,
        ", ".join(missed),
        n,
        people if own else "",
        *(_rate(shipped["per_hour"]), _rate(shipped["bound"]), heard["hours"], heard["speakers"]),
    )


def _rate(per_hour: float) -> str:
    return f"{per_hour:,.0f}" if per_hour >= 10 else f"{per_hour:.1f}"


def _cost(profile: Json) -> Markup:
    """What an inference and the firmware cost, from the profile; where the network streams, what a hop costs."""
    means_us = {stage["name"]: float(stage["mean_us"]) for stage in profile["stages"]}
    clock_hz, how = profile["identity"]["clock_hz"], "modelled" if profile["modelled"] else "measured"
    streams = "inference (stream)" in means_us
    once_us = means_us["inference (stream)" if streams else "inference"]
    window = f", a whole window {means_us['inference'] / 1000:.2f} ms" if streams else ""
    return Markup(
        "<p>{} takes <b>{:.2f} ms</b> ({}) and {:.1f} uJ (modelled){}; the firmware {:,} B of flash and {:,} B of RAM."
        "</p>"
    ).format(
        "The network's part of a hop" if streams else "An inference",
        *(once_us / 1000, how, modelled_energy_uj(once_us * clock_hz / 1e6), window),
        *(profile["memory"]["flash"], profile["memory"]["static_ram"]),
    )


def _listening(found: Json, artifact: ModelArtifact) -> Parts:
    """The curve, and the shipped point by condition and by source."""
    if "listening_streams" not in found:
        return [_missing("hours of speech", f"python -m trainer evaluate {artifact.path.name} --negative DIR")]
    heard = found["listening_streams"]
    n, hours, curve, shipped = heard["conditions"][0]["words"], heard["hours"], heard["curve"], heard["shipped"]
    rates = [max(total, 0.5) / hours for total in curve["total"]]
    series = []
    for (name, row), colour in zip(curve["misses"].items(), COLOURS, strict=False):
        share = [100 * misses / n for misses in row]
        dots = [Dot(*at, "", "none") for at in zip(rates, share, strict=True)][slice(*curve["drawn"])]
        point = Dot(max(shipped["false_accepts"], 0.5) / hours, 100 * shipped["misses"][name] / n, "as shipped")
        series += [Series(name, colour, tuple(dots)), Series("", colour, (point,))]
    words = artifact.spec.words
    conditions = [
        (c["name"], f"{100 * c['misses'] / n:.1f} %", c["misses"], *(c["per_word"][w] for w in words), c["confusions"])
        for c in heard["conditions"]
    ]
    facts = ("speaker", "language", "licence", "hours", "false_accepts", "per_hour", "bound")
    sources = [(s["name"], *(s[key] for key in facts), *(s["per_word"][w] for w in words)) for s in heard["sources"]]
    others = [
        (o["word"], o["n"], o["taken"], ", ".join(f"{w} {k}" for w, k in o["as"].items())) for o in heard["other_words"]
    ]
    others.sort(key=lambda o: -o[2] / o[1])
    missed = [f"missed {word}" for word in words]
    heads = ("source", *facts[:4], "false accepts", "per hour", "95 % bound", *words)
    return [
        f"Int8 by {heard['engine']}, over {hours:.2f} hours without the words and {n} test clips of them; dots: as "
        f"shipped. None in these hours is drawn as half a false accept.",
        chart(series, "false accepts per hour", "words missed, %", log_x=True),
        Table(("condition", "missed", f"of {n}", *missed, "other word named"), conditions, "as shipped"),
        *(f"{c['name']}, which are no people: {c['misses']} of {c['words']} missed." for c in heard.get("voices", ())),
        Table(heads, sources, "false accepts, as shipped"),
        Table(
            ("word", "clips", "taken", "for"), others, summary="other words played alone, and what they are taken for"
        ),
    ]


def _evaluation(found: Json) -> Parts:
    labels = [str(label) for label in found["labels"]]
    rows = []
    for engine, splits in found["engines"].items():
        for split, s in splits.items():
            shares = zip(s["per_class"], s["per_class_n"], strict=True)
            per_class = [f"{p:.1f} (n = {n})" if n else "-" for p, n in shares]
            rows.append(
                [engine, split.replace("_", ", "), f"{s['accuracy']:.2f} %" if s["n"] else "-", s["n"], *per_class]
            )
    parts: Parts = [Table(("engine", "clips", "all", "n", *labels), rows, "per class in %")]
    last = list(found["engines"])[-1]
    if "confusion" in found["engines"][last].get("test_reset", {}):
        matrix = found["engines"][last]["test_reset"]["confusion"]
        parts.append(_confusion(labels, matrix, f"confusion matrix, {last}, test clips, from a reset"))
    if "float_to_int8" in found:
        c = found["float_to_int8"]
        parts.append(
            f"From float to int8, on {c['n']} test clips: {c['gained']} gained, {c['lost']} lost, "
            f"net loss {c['net_loss_points']} points."
        )
    if "listening" in found:
        h = found["listening"]
        parts.append(
            f"Listening to {h['seconds']} s of test clips: {h['heard']} of {h['words']} words heard (miss rate "
            f"{100 * h['miss_rate']:.1f} %), {h['false_accepts']} false accepts ({h['false_accepts_per_hour']} "
            f"per hour)."
        )
    return parts


def _curves(run: Path) -> Parts:
    """The training curves, inside the page."""
    found = [file for file in (run / "curves_float.png", run / "curves_qat.png") if file.is_file()]
    return [Picture("training curves", file.read_bytes()) for file in found]


def _confusion(labels: Sequence[str], matrix: Sequence[Sequence[int]], caption: str) -> Table:
    shade = Markup("<div style='background:rgba(10,127,90,{:.2f})'>{}</div>")
    rows = [
        [label, *(shade.format(count / max(1, sum(row)), count) for count in row)]
        for label, row in zip(labels, matrix, strict=True)
    ]
    return Table(("true \\ heard", *labels), rows, caption)


def _stages(profile: Json, artifact: ModelArtifact) -> Parts:
    board, memory = profile["identity"], profile["memory"]
    if board["spec_id"] not in ("none", artifact.spec.spec_id):
        raise HostError(
            f"--profile: of spec {board['spec_id']}, this run is {artifact.spec.spec_id}; profile the board with "
            f"its model"
        )
    how = "modelled by the virtual board" if profile["modelled"] else "measured"
    stages = [
        (
            *(s["name"], s["work"], s["n"], *(f"{s[key]:,.1f}" for key in ("min_us", "max_us", "mean_us"))),
            *(s["min_ms"], s["max_ms"], f"{s['mean_ms']:.2f}", f"{u['mean_us']:,.1f}"),
        )
        for s, u in zip(profile["stages"], profile["uncached"], strict=True)
    ]
    heads = ("stage", "work", "n", "min us", "max us", "mean us", "min ms", "max ms", "mean ms", "mean us, no cache")
    layers = [
        (x["name"], f"{x['cycles']:,}", "not visible" if x["crc32"] is None else f"{x['crc32']:08x}")
        for x in profile["layers"]
    ]
    used = [
        (name, f"{memory[key]:,}", f"{100 * memory[key] / of:.1f} %")
        for name, key, of in (
            ("flash image", "flash", NRF52840.flash_bytes),
            ("static RAM", "static_ram", NRF52840.ram_bytes),
            ("of it activations and scratch", "arena", NRF52840.ram_bytes),
            ("deepest stack", "stack_high_water", NRF52840.ram_bytes),
        )
    ]
    return [
        Markup("<p>{}, engine {}, {:g} MHz: <b>{}</b>.</p>").format(
            board["board"], board["engine"], board["clock_hz"] / 1e6, how
        ),
        Table(heads, stages, "us by the cycle counter, ms by millis()"),
        Markup("<h2>Layers</h2>"),
        bars([(str(x["name"]), x["cycles"] * 1e6 / board["clock_hz"]) for x in profile["layers"]], "us"),
        Table(("layer", "cycles", "CRC-32 of its output"), layers),
        Markup("<h2>Memory of the firmware</h2>"),
        Table(("", "bytes", "of the board"), used, "of 1 MiB flash and 256 KiB RAM"),
    ]


def _sizes(artifact: ModelArtifact) -> Parts:
    if not artifact.onnx.is_file():
        return [_missing("the model is not exported", f"python -m trainer export {artifact.path.name}")]
    size = model_size(load_model(artifact.path).graph)
    rows = [
        (
            *(layer.name, layer.operator, "x".join(map(str, layer.output_shape))),
            *(f"{n:,}" for n in (layer.parameters, layer.macs, layer.operations, layer.int8_bytes)),
        )
        for layer in size.layers
    ]
    every = (size.parameters, size.macs, size.operations, size.int8_flash_bytes)
    rows.append(("all", "", "", *(f"{n:,}" for n in every)))
    caption = (
        f"int8: {size.int8_flash_bytes:,} B of constants, {size.arena_bytes:,} B of activations; "
        f"fp32: {size.fp32_flash_bytes:,} B and {size.fp32_ram_bytes:,} B"
    )
    heads = ("layer", "operator", "output", "parameters", "multiply-adds", "operations", "int8 bytes")
    return [Table(heads, rows, caption)]


def _trial(trial: Json) -> Parts:
    attempts = trial["attempts"]
    rows = [
        (
            *(a["file"], a["expected"], a["heard"], f"{a['margin']:+d}", _good(a["right"], "no")),
            _good(a["different"] == 0, f"{int(a['different'])} differ"),
        )
        for a in attempts
    ]
    right = Counter(a["expected"] for a in attempts if a["right"])
    every = Counter(a["expected"] for a in attempts)
    per_class = ", ".join(f"{label} {right[label]} of {n}" for label, n in every.items())
    return [
        f"{trial['right']} of {trial['n']} right ({per_class}); {trial['different']} inferences differ from the "
        f"host's.",
        Table(
            ("recording", "expected", "heard", "margin", "right", "same as host"),
            rows,
            left=True,
            summary="every attempt",
        ),
    ]


def _compare(compare: Json) -> Parts:
    rows = [
        (
            *(t["engine"], "-" if t["median_us"] is None else f"{t['median_us']:,.1f}", t["n"]),
            *(f"{t['slowdown_of_board']:.1f}x" if t["slowdown_of_board"] else "", t["note"]),
        )
        for t in compare["timings"]
    ]
    return [Table(("engine", "median us", "n", "board is slower by", "note"), rows)]


def _checks(checks: Json) -> Parts:
    rows = []
    for c in checks["checks"]:
        checked = f"{c['checked']:,} {c['unit']}" if c["checked"] else "not available here"
        holds = _good(not c["differences"], c["status"]) if c["checked"] else ""
        rows.append((c["claim"], holds, checked, c["differences"], c["status"], c["detail"]))
    outcome = "two engines differ" if checks["differs"] else "no difference in any check that could run"
    heads = ("claim", "holds", "checked", "differences", "status", "detail")
    return [f"Model {checks['model_id']}: {outcome}.", Table(heads, rows, left=True)]
