"""One self-contained HTML file about a run: what it hears, how fast, how large, and what was proven equal. No network,
no scripts."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from converter.files import write_atomic
from converter.run_folder import ModelArtifact
from converter.size import model_size
from host.errors import HostError
from host.link.expected import load_model
from host.report.sweep_data import read_json

Json = dict[str, Any]
BAR_WIDTH = 420

STYLE = """
:root { color-scheme: light dark; --line: #8884; --accent: #0a7f5a; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: .5rem 0; display: block; overflow-x: auto; } th, td { padding: .15rem .7rem; text-align: right; }
th { font-weight: 600; border-bottom: 1px solid var(--line); } td:first-child, th:first-child, .left td, .left th { text-align: left; }
.left td { vertical-align: top; }
caption { text-align: left; caption-side: bottom; opacity: .75; font-size: .85rem; } .note { opacity: .75; } .bad { color: var(--bad); }
.smoke { border: 1px solid var(--bad); padding: .4rem .8rem; } code { font-size: .9em; }
img { max-width: 100%; margin: .5rem 0; } svg text { fill: currentColor; font-size: 12px; }
"""  # noqa: E501


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
    body = [
        _head(artifact),
        _evaluation(artifact),
        _stages(_read(profile), artifact),
        _sizes(artifact),
        _trial(_read(trial)),
        _compare(_read(compare)),
        _checks(_read(checks)),
    ]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{_text(artifact.model)}: {_text(', '.join(artifact.spec.words))}</title><style>{STYLE}</style>\n"
        f"{''.join(body)}</html>\n"
    )
    write_atomic(target, page.encode())
    return target


def _read(path: Path | None) -> Json | None:
    return None if path is None else read_json(path, "make it again with --json")


def _text(value: object) -> str:
    return html.escape(str(value))


def _number(value: object, digits: int = 1) -> str:
    return (
        f"{value:,.{digits}f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else _text(value)
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", kind: str = "") -> str:
    """Cells are escaped, except `_Html`. kind "left" aligns text, not numbers."""
    cells = "".join(
        "<tr>" + "".join(f"<td>{c if isinstance(c, _Html) else _text(c)}</td>" for c in row) + "</tr>\n" for row in rows
    )
    below = f"<caption>{_text(caption)}</caption>" if caption else ""
    return (
        f"<table class='{kind}'>{below}<tr>{''.join(f'<th>{_text(h)}</th>' for h in headings)}</tr>\n{cells}</table>\n"
    )


class _Html(str):
    """Text that already is HTML."""


def _good(holds: bool, otherwise: str) -> str:
    return "yes" if holds else _Html(f"<span class=bad>{_text(otherwise)}</span>")


def _missing(what: str, command: str) -> str:
    return f"<p class=note>Not measured: {_text(what)}. <code>{_text(command)}</code></p>\n"


def _head(artifact: ModelArtifact) -> str:
    smoke = (
        "<p class=smoke>Trained on synthetic speech: every score on this page is a <b>smoke test</b>, not an "
        "accuracy.</p>"
        if artifact.is_smoke_test
        else ""
    )
    model_id = load_model(artifact.path).graph.model_id if artifact.onnx.is_file() else "not exported"
    facts = [
        ("words", ", ".join(artifact.spec.words)),
        ("data", artifact.data),
        ("seed", artifact.seed),
        ("spec id", artifact.spec.spec_id),
        ("model id", model_id),
    ]
    d = artifact.detector
    facts.append(
        (
            "detector",
            f"an inference every {d.hop_frames} frames, {d.average_count} averaged, threshold {d.threshold} of 255, "
            f"{d.suppress_frames} frames of rest after a word",
        )
    )
    return f"<h1>{_text(artifact.model)}</h1>{smoke}" + _table(("", ""), facts, kind="left")


def _evaluation(artifact: ModelArtifact) -> str:
    word = "Smoke test" if artifact.is_smoke_test else "Accuracy"
    found = _read(artifact.path / "evaluation.json") if (artifact.path / "evaluation.json").is_file() else None
    if found is None:
        return f"<h2>{word}</h2>" + _missing(
            "scores on validation and test clips", f"python -m trainer evaluate {artifact.path.name}"
        )
    labels = found["labels"]
    rows = []
    for engine, splits in found["engines"].items():
        for split, s in splits.items():
            per_class = [f"{p:.1f} (n = {n})" for p, n in zip(s["per_class"], s["per_class_n"], strict=True)]
            rows.append([engine, split.replace("_", ", "), f"{s['accuracy']:.2f} %", s["n"], *per_class])
    parts = [f"<h2>{word}</h2>", _table(("engine", "clips", "all", "n", *labels), rows, "per class in %")]
    last = list(found["engines"])[-1]
    if "confusion" in found["engines"][last].get("test_reset", {}):
        matrix = found["engines"][last]["test_reset"]["confusion"]
        parts.append(_confusion(labels, matrix, f"confusion matrix, {last}, test clips, from a reset"))
    if "float_to_int8" in found:
        c = found["float_to_int8"]
        parts.append(
            f"<p>From float to int8, on {c['n']} test clips: {c['gained']} gained, {c['lost']} lost, "
            f"net loss {c['net_loss_points']} points.</p>"
        )
    if "listening" in found:
        h = found["listening"]
        parts.append(
            f"<p>Listening to {h['seconds']} s of test clips: {h['heard']} of {h['words']} words heard (miss rate "
            f"{100 * h['miss_rate']:.1f} %), {h['false_accepts']} false accepts ({h['false_accepts_per_hour']} "
            f"per hour).</p>"
        )
    return "".join([*parts, *_pictures(artifact.path)])


def _pictures(run: Path) -> list[str]:
    """The training curves, inside the page."""
    found = [file for file in (run / "curves_float.png", run / "curves_qat.png") if file.is_file()]
    return [
        f"<img alt='training curves' src='data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}'>\n"
        for file in found
    ]


def _confusion(labels: Sequence[str], matrix: Sequence[Sequence[int]], caption: str) -> str:
    rows = []
    for label, row in zip(labels, matrix, strict=True):
        total = max(1, sum(row))
        shade = [_Html(f"<div style='background:rgba(10,127,90,{count / total:.2f})'>{count}</div>") for count in row]
        rows.append([label, *shade])
    return _table(("true \\ heard", *labels), rows, caption)


def _bars(rows: Sequence[tuple[str, float]], unit: str) -> str:
    """A horizontal bar chart as inline SVG."""
    largest = max((value for _, value in rows), default=0.0) or 1.0
    parts = []
    for index, (name, value) in enumerate(rows):
        y = 22 * index
        width = BAR_WIDTH * value / largest
        parts.append(
            f"<text x=170 y={y + 14} text-anchor=end>{_text(name[-26:])}</text>"
            f"<rect x=178 y={y + 3} width={width:.1f} height=14 fill='var(--accent)'/>"
            f"<text x={184 + width:.1f} y={y + 14}>{_number(value, 1)} {_text(unit)}</text>"
        )
    return f"<svg width={BAR_WIDTH + 320} height={22 * len(rows) + 6} role=img>{''.join(parts)}</svg>\n"


def _stages(profile: Json | None, artifact: ModelArtifact) -> str:
    if profile is None:
        return "<h2>Time on the board</h2>" + _missing(
            "stages and layers", "python -m host profile PORT --json F; report --profile F"
        )
    try:
        return _stages_of(profile, artifact)
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(
            f"--profile: no profile of this version ({error}); make it with `python -m host profile --json`"
        ) from None


def _stages_of(profile: Json, artifact: ModelArtifact) -> str:
    board = profile["identity"]
    if board["spec_id"] not in ("none", artifact.spec.spec_id):
        raise HostError(
            f"--profile: of spec {board['spec_id']}, this run is {artifact.spec.spec_id}; profile the board with "
            f"its model"
        )
    how = "modelled by the virtual board" if profile["modelled"] else "measured"
    rows = []
    for s, u in zip(profile["stages"], profile["uncached"], strict=True):
        rows.append(
            (
                s["name"],
                s["work"],
                s["n"],
                *(f"{s[key]:,.1f}" for key in ("min_us", "max_us", "mean_us")),
                s["min_ms"],
                s["max_ms"],
                f"{s['mean_ms']:.2f}",
                f"{u['mean_us']:,.1f}",
            )
        )
    layers = [(layer["name"], layer["cycles"] * 1e6 / board["clock_hz"]) for layer in profile["layers"]]
    heads = ("stage", "work", "n", "min us", "max us", "mean us", "min ms", "max ms", "mean ms", "mean us, no cache")
    return (
        f"<h2>Time on the board</h2><p>{_text(board['board'])}, engine {_text(board['engine'])}, "
        f"{board['clock_hz'] / 1e6:g} MHz: "
        f"<b>{how}</b>.</p>"
        + _table(heads, rows, "us by the cycle counter, ms by millis()")
        + "<h2>Layers</h2>"
        + _bars(layers, "us")
        + _table(
            ("layer", "cycles", "CRC-32 of its output"),
            [
                (
                    layer["name"],
                    f"{layer['cycles']:,}",
                    "not visible" if layer["crc32"] is None else f"{layer['crc32']:08x}",
                )
                for layer in profile["layers"]
            ],
        )
        + _memory(profile["memory"])
    )


def _memory(memory: Json) -> str:
    flash, ram = 1 << 20, 1 << 18
    rows = [
        ("flash image", f"{memory['flash']:,}", f"{100 * memory['flash'] / flash:.1f} %"),
        ("static RAM", f"{memory['static_ram']:,}", f"{100 * memory['static_ram'] / ram:.1f} %"),
        ("of it activations and scratch", f"{memory['arena']:,}", f"{100 * memory['arena'] / ram:.1f} %"),
        ("deepest stack", f"{memory['stack_high_water']:,}", f"{100 * memory['stack_high_water'] / ram:.1f} %"),
    ]
    return "<h2>Memory of the firmware</h2>" + _table(
        ("", "bytes", "of the board"), rows, "of 1 MiB flash and 256 KiB RAM"
    )


def _sizes(artifact: ModelArtifact) -> str:
    if not artifact.onnx.is_file():
        return "<h2>Size of the network</h2>" + _missing(
            "the model is not exported", f"python -m trainer export {artifact.path.name}"
        )
    size = model_size(load_model(artifact.path).graph)
    rows = [
        (
            layer.name,
            layer.operator,
            "x".join(map(str, layer.output_shape)),
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
            f"{layer.operations:,}",
            f"{layer.int8_bytes:,}",
        )
        for layer in size.layers
    ]
    rows.append(
        ("all", "", "", f"{size.parameters:,}", f"{size.macs:,}", f"{size.operations:,}", f"{size.int8_flash_bytes:,}")
    )
    caption = (
        f"int8: {size.int8_flash_bytes:,} B of constants, {size.arena_bytes:,} B of activations; "
        f"fp32: {size.fp32_flash_bytes:,} B and {size.fp32_ram_bytes:,} B"
    )
    heads = ("layer", "operator", "output", "parameters", "multiply-adds", "operations", "int8 bytes")
    return "<h2>Size of the network</h2>" + _table(heads, rows, caption)


def _trial(trial: Json | None) -> str:
    if trial is None:
        return "<h2>Spoken-word trial</h2>" + _missing(
            "words played", "python -m host trial PORT WAVS --json F; report --trial F"
        )
    try:
        rows = [
            (
                a["file"],
                a["expected"],
                a["heard"],
                f"{a['score']:.2f}",
                _good(a["right"], "no"),
                _good(a["different"] == 0, f"{int(a['different'])} differ"),
            )
            for a in trial["attempts"]
        ]
        per_class = ", ".join(
            f"{label} {sum(a['right'] for a in trial['attempts'] if a['expected'] == label)} of "
            f"{sum(a['expected'] == label for a in trial['attempts'])}"
            for label in dict.fromkeys(a["expected"] for a in trial["attempts"])
        )
        line = (
            f"{trial['right']} of {trial['n']} right ({per_class}); {trial['different']} inferences differ from "
            f"the host's"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(
            f"--trial: no trial of this version ({error}); make it with `python -m host trial --json`"
        ) from None
    table = _table(("recording", "expected", "heard", "score", "right", "same as host"), rows, kind="left")
    return f"<h2>Spoken-word trial</h2><p>{_text(line)}.</p><details><summary>every attempt</summary>{table}</details>"


def _compare(compare: Json | None) -> str:
    if compare is None:
        return "<h2>This machine and the board</h2>" + _missing(
            "times", "python -m host compare RUN --json F; report --compare F"
        )
    try:
        rows = []
        for t in compare["timings"]:
            factor = f"{t['slowdown_of_board']:.1f}x" if t["slowdown_of_board"] else ""
            rows.append(
                (t["engine"], "-" if t["median_us"] is None else f"{t['median_us']:,.1f}", t["n"], factor, t["note"])
            )
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(
            f"--compare: no comparison of this version ({error}); make it with `python -m host compare --json`"
        ) from None
    return "<h2>This machine and the board</h2>" + _table(
        ("engine", "median us", "n", "board is slower by", "note"), rows
    )


def _checks(checks: Json | None) -> str:
    if checks is None:
        return "<h2>Equivalence checks</h2>" + _missing(
            "the checks", "python -m converter verify RUN --json F; report --checks F"
        )
    try:
        rows = []
        for check in checks["checks"]:
            checked = f"{check['checked']:,} {check['unit']}" if check["checked"] else "not available here"
            rows.append(
                (
                    check["claim"],
                    _good(not check["differences"], check["status"]) if check["checked"] else "",
                    checked,
                    check["differences"],
                    check["status"],
                    check["detail"],
                )
            )
        outcome = "two engines differ" if checks["differs"] else "no difference in any check that could run"
        line = f"Model {checks['model_id']}: {outcome}."
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(
            f"--checks: no checks of this version ({error}); make it with `python -m converter verify --json`"
        ) from None
    heads = ("claim", "holds", "checked", "differences", "status", "detail")
    return f"<h2>Equivalence checks</h2><p>{_text(line)}</p>" + _table(heads, rows, kind="left")
