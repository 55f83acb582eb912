"""What the command does: one primitive by one method with its IR, or the whole table as a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tvm

from converter.files import scratch_folder, write_atomic
from trainer.board import BoardTools
from trainer.errors import TrainerError
from trainer.tvm import auto, cpu
from trainer.tvm.measure import checked, compiled, cpu_target, fastest_seconds, others, threads
from trainer.tvm.primitives import PRIMITIVES, Primitive, Sizes

METHODS = ("original", "manual", "auto")
TARGETS = ("cpu", "cuda", "cortex-m4")
REMADE = "python -m trainer tvm table"
MORE_SIZES: dict[str, tuple[Sizes, ...]] = {
    "conv1d": ((10000, 1024),),
    "gemm": ((1024, 2048, 512),),
    "conv2d": (),
    "depthwise": ((3, 4, 16, 32, 7),),
}


@dataclass(frozen=True)
class Row:
    """One way to compute a primitive. `kind` is original, step, manual (the last step), rejected, auto or other."""

    name: str
    kind: str
    seconds: float


def find(name: str) -> Primitive:
    """The primitive of this name; TrainerError for no such one."""
    if name not in PRIMITIVES:
        raise TrainerError(
            f"tvm: the primitive is one of {', '.join(PRIMITIVES)} (or firmware, table), got {name!r}; name one "
            f"of these"
        )
    return PRIMITIVES[name]


def one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """TrainerError unless the option --WHAT has one of the values."""
    if value not in allowed:
        raise TrainerError(f"tvm: --{what} is one of {', '.join(allowed)}, got {value!r}; name one of these")


def modules(primitive: Primitive, sizes: Sizes, method: str) -> dict[str, tuple[str, tvm.IRModule]]:
    """By name the kind and the scheduled module, in the order of the table."""
    found = {"original": ("original", cpu.scheduled(primitive, sizes, ()))}
    if method == "manual":
        steps = cpu.STEPS[primitive.name]
        for n, step in enumerate(steps, 1):
            found[step.__name__] = ("manual" if n == len(steps) else "step", cpu.scheduled(primitive, sizes, steps[:n]))
        for step in cpu.REJECTED[primitive.name]:
            found[step.__name__] = ("rejected", cpu.scheduled(primitive, sizes, (*steps[:-1], step, steps[-1])))
    return found


def searched(primitive: Primitive, sizes: Sizes, trials: int, replay: bool) -> tvm.IRModule:
    """The schedule of the log, or a new search that is then written into the log."""
    key = auto.key_of(primitive, sizes)
    record = auto.read_log().get(key) if replay else None
    if record is None:
        threads()
        record = auto.tune(primitive, sizes, cpu_target(), trials)
        auto.write_log(key, record)
    return auto.replay(primitive, sizes, record)


def measure_cpu(
    primitive: Primitive, sizes: Sizes, method: str, trials: int = auto.MAX_TRIALS, replay: bool = True
) -> list[Row]:
    """Times of the method's schedules, checked before, with torch and numpy, all in one run."""
    target = cpu_target()
    parts = modules(primitive, sizes, method)
    if method == "auto" or (method == "manual" and auto.key_of(primitive, sizes) in auto.read_log()):
        parts["auto"] = ("auto", searched(primitive, sizes, trials, replay))
    peers = others(
        primitive, sizes
    )  # torch's threads start before TVM ties the main one to a core, which they would inherit
    calls = {
        name: checked(primitive, sizes, name, compiled(module, target)) for name, (_, module) in parts.items()
    } | peers
    kinds = {name: kind for name, (kind, _) in parts.items()}
    return [Row(name, kinds.get(name, "other"), seconds) for name, seconds in fastest_seconds(calls).items()]


def save_ir(primitive: Primitive, parts: dict[str, tuple[str, tvm.IRModule]], folder: Path) -> list[Path]:
    """The IR before any step and after each, as TVMScript."""
    files = []
    for number, (name, (_, module)) in enumerate(parts.items()):
        file = folder / f"{primitive.name}_{number}_{name}.py"
        write_atomic(file, (module.script() + "\n").encode())
        files.append(file)
    return files


def table(primitive: Primitive, sizes: Sizes, rows: list[Row]) -> list[str]:
    """Markdown: microseconds, times as fast as the original, time over torch's."""
    by_name = {row.name: row for row in rows}
    original, torch_seconds = by_name["original"].seconds, by_name["torch"].seconds
    shape = ", ".join(f"{name} {size}" for name, size in zip(primitive.size_names, sizes, strict=True))
    lines = [
        f"### {primitive.name}: {shape}",
        "",
        "| schedule | us | times the original's speed | time / torch's |",
        "|---|---|---|---|",
    ]
    for row in rows:
        name = {"rejected": f"(not kept) {row.name}", "manual": f"**{row.name}** = manual", "auto": "**auto**"}.get(
            row.kind, row.name
        )
        lines.append(
            f"| {name} | {row.seconds * 1e6:,.1f} | {_ratio(original / row.seconds)} | "
            f"{_ratio(row.seconds / torch_seconds)} |"
        )
    manual, found = (next((row.seconds for row in rows if row.kind == kind), None) for kind in ("manual", "auto"))
    if manual and found:
        lines += ["", f"auto : manual = {found / manual:.2f} (time)"]
    return [*lines, ""]


def _ratio(value: float) -> str:
    """Two digits behind the point, more where there would be nothing but zeros.

    >>> _ratio(123.456), _ratio(0.00123)
    ('123.46', '0.0012')
    """
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.2g}"


def study(
    name: str,
    target: str,
    method: str,
    size: str,
    trials: int,
    replay: bool,
    out: Path,
    tools: Callable[[], BoardTools],
) -> list[str]:
    """The lines to print; IR, and for a GPU the source, are written into `out`."""
    one_of("target", target, TARGETS)
    one_of("method", method, METHODS)
    primitive = find(name)
    sizes = primitive.check(_sizes(size))
    if target == "cortex-m4":
        from trainer.tvm import cortex_study

        return cortex_study.study(primitive, method, out, tools())
    if target == "cuda":
        from trainer.tvm import gpu_study

        return gpu_study.study(primitive, sizes, method, out)
    parts = modules(primitive, sizes, method)
    rows = measure_cpu(primitive, sizes, method, trials, replay)
    if method == "auto":
        parts["auto"] = ("auto", searched(primitive, sizes, trials, True))
    return [*table(primitive, sizes, rows), *(str(file) for file in save_ir(primitive, parts, out))]


def _sizes(text: str) -> Sizes:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() for part in parts):
        raise TrainerError(f"tvm: --size is whole numbers with commas between, got {text!r}; for example 512,512,512")
    return tuple(int(part) for part in parts)


def write_table(out: Path, tools: BoardTools) -> Path:
    """Every primitive on this machine in one run, from the log without searching, and the Cortex-M4's cycles."""
    from trainer.tvm import cortex_study

    lines = [
        f"<!-- Made by: {REMADE} -->",
        "# TVM: schedules beside torch and numpy",
        "",
        f"{cpu_target().attrs['mcpu']}, {threads()} threads, float32; the shortest of many calls from "
        f"Python, all ways in turns.",
        "",
    ]
    for primitive in PRIMITIVES.values():
        for sizes in (primitive.default, *MORE_SIZES[primitive.name]):
            lines += table(primitive, sizes, measure_cpu(primitive, sizes, "manual"))
    with scratch_folder() as folder:
        lines += cortex_study.table(folder, tools)
    write_atomic(out, ("\n".join(lines)).encode())
    return out
