"""The report of a sweep: fronts, cliffs, the page's elements, and the page in a real browser."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from host_cli import Cli

from host.measure.energy import modelled_energy_uj
from host.report import sweep_picture
from host.report.svg_chart import Dot, Scale, Series, chart
from host.report.sweep_data import Row, curves, front, load_sweep
from host.report.sweep_page import cliff_text, write_sweep_report

ACCURACY = {("none", 0.0): 92.5, ("structured", 0.25): 91.0, ("structured", 0.5): 90.0, ("structured", 0.875): 70.0}


def write_point(
    folder: Path, kind: str, amount: float, bits: int, method: str, accuracy: float, seed: int = 0
) -> dict[str, Any]:
    key = f"{kind}{amount:g}-{method}{bits}-s{seed}"
    point = {"model": "tinyconv", "seed": seed, "kind": kind, "amount": amount, "norm": "l2"}
    point |= {"finetune": 0, "method": method, "bits": bits}
    parameters = round(16652 * (1 - amount))
    ms = 5.0 * (1 - amount) + bits / 100
    board = {
        "nonzero": parameters,
        "operations_nonzero": 40 * parameters,
        "host_us": 130.0 * (1 - amount),
        "board_ms": ms,
        "cycles": 64000 * ms,
        "cycles_uncached": 80000 * ms,
        "cycles_stream_hop": None,
        "energy_uj": modelled_energy_uj(64000 * ms),
        "engine_flash_bytes": 9000 + parameters * bits // 8,
        **{"engine_ram_bytes": 9000, "flash_bytes": 50000, "ram_bytes": 40000, "inputs": 50},
    }
    commands = ["python -m trainer train --out X", f"python -m trainer quantize X --bits {bits} --out 'Y & <Z>'"]
    result = {"point": point, "commands": commands, "train": {"accuracy": accuracy, "n": 983}, "board": board}
    (folder / "points" / key).mkdir(parents=True)
    (folder / "points" / key / "result.json").write_text(json.dumps(result))
    return {**point, "key": key}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep folder: pruning with a cliff after half of the channels, bits with both methods, one point broken, one
    not made."""
    points = [write_point(tmp_path, kind, amount, 8, "ptq", accuracy) for (kind, amount), accuracy in ACCURACY.items()]
    points += [
        write_point(
            tmp_path, "none", 0.0, bits, method, 92.0 - (10 if bits == 2 and method == "ptq" else 0) + seed, seed
        )
        for bits in (2, 4)
        for method in ("ptq", "qat")
        for seed in (0, 1)
    ]
    points.append({**points[0], "seed": 7, "key": "broken"})
    (tmp_path / "points" / "broken").mkdir()
    (tmp_path / "points" / "broken" / "result.json").write_text(json.dumps({"error": "no luck <here>"}))
    points.append({**points[0], "seed": 8, "key": "waiting"})
    (tmp_path / "float" / "tinyconv-s0").mkdir(parents=True)
    (tmp_path / "float" / "tinyconv-s0" / "float.json").write_text(json.dumps({"model": "tinyconv", "accuracy": 92.7}))
    (tmp_path / "sweep.json").write_text(json.dumps({"points": points, "words": ["yes", "stop"], "smoke_test": False}))
    return tmp_path


class Elements(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_sweep_is_read_with_what_is_missing(folder: Path) -> None:
    sweep = load_sweep(folder)
    assert len(sweep.rows) == 12 and sweep.broken == (("broken", "no luck <here>"),) and sweep.waiting == 1
    assert sweep.float_accuracy == {"tinyconv": [92.7]}


def test_the_front_is_what_nothing_beats(folder: Path) -> None:
    """Against the definition, on many random sets with equal values among them."""
    template = load_sweep(folder).rows[0]
    rng = random.Random(4)
    for _ in range(200):
        rows = [
            replace(template, accuracy=float(rng.randint(80, 95)), board_ms=float(rng.randint(1, 9))) for _ in range(15)
        ]
        found = front(rows, lambda r: r.board_ms)

        def beats(o: Row, r: Row) -> bool:
            as_good = o.accuracy >= r.accuracy and o.board_ms <= r.board_ms
            return as_good and (o.accuracy, o.board_ms) != (r.accuracy, r.board_ms)

        beaten = [r for r in rows if any(beats(o, r) for o in rows)]
        assert values(found) == values(rows) - values(beaten)
        assert [r.board_ms for r in found] == sorted(r.board_ms for r in found)


def values(rows: list[Row]) -> set[tuple[float, float]]:
    return {(r.board_ms, r.accuracy) for r in rows}


def test_the_cliff_is_the_largest_drop_between_neighbours(folder: Path) -> None:
    (curve,) = curves(load_sweep(folder).rows)
    assert [m.accuracy for m in curve.points] == [92.5, 91.0, 90.0, 70.0] and curve.cliff == 2
    assert cliff_text(curve) == "from 8,326 to 2,082 parameters: 90.00 to 70.00 %, 20.00 points"


def test_the_page_has_every_point_and_no_network(folder: Path) -> None:
    page = write_sweep_report(folder).read_text()
    elements = Elements(page).found
    own = {f"{name}-tinyconv" for name in ("bits", "parameters", "operations", "host", "board")}
    assert {a["id"] for tag, a in elements if tag == "svg"} == own | {"pareto-time", "pareto-flash"}
    tips = [a["data-tip"] or "" for _, a in elements if "dot" in (a.get("class") or "").split()]
    assert len(tips) == 5 + 4 * 4 + 2 * 12, (
        "bits: PTQ at 2, 4, 8 and QAT at 2, 4; four pruning charts of four; two Pareto charts of all"
    )
    assert all("python -m trainer quantize X --bits" in tip and "'Y & <Z>'" in tip and "n = 983" in tip for tip in tips)
    assert not re.search(r"(https?:)?//\w|@import|url\(", page), "nothing is fetched"
    assert not [tag for tag, a in elements if tag in ("link", "iframe", "img") or "src" in a or "href" in a]
    assert (
        "mean of 2 seeds: 82.50 % (82.00 83.00)" in page
        and "no luck &lt;here&gt;" in page
        and "modelled energy" in page
    )
    assert "1 broken, 1 not made yet" in page
    table = (folder / "report.md").read_text()
    assert (
        len([line for line in table.splitlines() if line.startswith("| tinyconv")]) == 12
        and "cliff of tinyconv" in table
    )


def test_the_command_knows_a_sweep(folder: Path, cli: Cli, tmp_path: Path) -> None:
    result = cli("report", folder, "--out", tmp_path / "own.html")
    assert result.code == 0 and (tmp_path / "own.html").is_file() and (tmp_path / "own.md").is_file()
    result = cli("report", folder, "--trial", tmp_path / "t.json")
    assert result.code == 1 and "--trial: belongs to a run" in result.err
    board = json.loads(next(folder.glob("points/none0-ptq8*/result.json")).read_text())
    board["board"]["board_ms"] = "fast"
    (folder / "points" / "broken" / "result.json").write_text(json.dumps(board))
    assert "board_ms of broken must be a number" in cli("report", folder).err
    (folder / "points" / "broken" / "result.json").write_text("{")
    result = cli("report", folder)
    assert result.code == 1 and "result.json: no readable JSON" in result.err


def test_in_a_browser_the_tip_shows_the_command(folder: Path) -> None:
    """Headless Chromium runs the page: it draws every dot inside its chart, and hovering shows, leaving hides, clicking
    keeps the tip."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium to open the page in")
    page = write_sweep_report(folder)
    probe = """<script>
    const seen = {dots: 0, outside: 0};
    for (const svg of document.querySelectorAll('svg')) { const frame = svg.getBoundingClientRect();
      for (const dot of svg.querySelectorAll('.dot')) { const at = dot.getBoundingClientRect(); seen.dots++;
        if (at.width < 3 || at.left < frame.left || at.right > frame.right) seen.outside++;
        if (at.height < 3 || at.top < frame.top || at.bottom > frame.bottom) seen.outside++; } }
    const dot = document.querySelector('#pareto-time .dot'), box = document.querySelector('#tip');
    const state = () => getComputedStyle(box).display === 'block' && box.textContent.includes('python -m trainer quantize');
    dot.dispatchEvent(new Event('mouseenter')); seen.hover = state();
    dot.dispatchEvent(new Event('mouseleave')); seen.left = state();
    dot.dispatchEvent(new MouseEvent('click', {bubbles: true})); dot.dispatchEvent(new Event('mouseleave')); seen.pinned = state();
    document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'})); seen.closed = state();
    document.title = 'PROBE' + JSON.stringify(seen);
    </script></html>"""  # noqa: E501
    (folder / "probe.html").write_text(page.read_text().replace("</html>", probe))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:9", "--dump-dom")
    command = [browser, *flags, f"--user-data-dir={folder / 'u'}", f"file://{folder / 'probe.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    told = re.search(r"<title>PROBE(.*?)</title>", done.stdout)
    assert told, done.stderr[-1000:]
    states = {"hover": True, "left": False, "pinned": True, "closed": False}
    assert json.loads(told[1]) == {"dots": 45, "outside": 0, **states}


def test_a_chart_of_one_point_and_of_none() -> None:
    assert "No points" in chart([], "x", "y")
    one = chart([Series("a < b", "#000", (Dot(3.0, 90.0, "tip"),))], "x", "y", log_x=True, floor=95.0)
    assert "a &lt; b" in one and "fill='#000'" in one
    two = chart([Series("", "#000", (Dot(3.0, 90.0, "tip"), Dot(4.0, 60.0, "tip")), line=False)], "x", "y", floor=80.0)
    assert two.count("fill='none'") == 1, "under the floor it is hollow"
    assert Scale(1.0, 100.0, 0.0, 10.0, True).at(10.0) == pytest.approx(5.0)


def test_energy_is_cycles_times_the_data_sheet() -> None:
    assert modelled_energy_uj(640_000) == pytest.approx(99.0), "10 ms at 3.3 mA and 3.0 V"


def test_the_picture_names_its_marks(folder: Path) -> None:
    """A legend for every shape that is drawn and for hollow dots where there are any; each chart has its title."""
    write_sweep_report(folder)
    assert (folder / "report.png").read_bytes()[:4] == b"\x89PNG"
    sweep = load_sweep(folder)
    other = replace(sweep.rows[0], model="dscnn", accuracy=96.5, board_ms=30.0)
    for rows, models, hollow in (
        (sweep.rows, ["TinyConv"], False),
        ((*sweep.rows, other), ["TinyConv", "DS-CNN"], True),
    ):
        figures = sweep_picture.draw(replace(sweep, rows=rows))
        titles = [axes.get_title() for axes in figures.axes]
        assert titles == [
            *("every point: accuracy and time", "every point: accuracy and flash", "tinyconv: bits"),
            *["tinyconv: pruning (thick: its largest drop)"] * 2,
        ]
        told = [text.get_text() for text in figures.axes[0].get_legend().get_texts()]
        assert [name for name in told if name in sweep_picture.MODELS.values()] == models
        assert any(name.startswith("hollow: below 71.5 %") for name in told) == hollow
        empty = [
            line for line in figures.axes[0].lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())
        ]
        assert bool(empty) == hollow and all(line.get_ydata()[0] == 71.5 for line in empty)
