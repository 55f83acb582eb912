"""The report in a few lines of a terminal: what the run hears, what it costs, what was proven, and what to do next."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from shlex import quote

from converter.run_folder import ModelArtifact
from host.result_files import CHECKS, EVALUATION, PROFILE, TRIAL, read_json


def summary(run: Path, profile: Path | None, trial: Path | None, checks: Path | None) -> list[str]:
    """Lines about those results that are there, each file as its command writes it, then the next commands. Raises
    ConvertError, HostError."""
    artifact, fix = ModelArtifact.load(run), "make it again"
    lines, words = [], ", ".join(artifact.spec.words)
    scores = run / "evaluation.json"
    if scores.is_file() and (tests := read_json(scores, fix, EVALUATION)["engines"].get("int8", {}).get("test_reset")):
        smoke = " (synthetic speech: a smoke test)" if artifact.is_smoke_test else ""
        lines.append(f"hears {words}: {tests['accuracy']:.1f} % of {tests['n']} test clips{smoke}")
    if profile:
        found = read_json(profile, fix, PROFILE)
        how = "modelled" if found["modelled"] else "measured"
        means = {stage["name"]: stage["mean_us"] / 1000 for stage in found["stages"]}
        times = [
            f"{name} {means[name]:.2f}" for name in ("pre", "inference", "inference (stream)", "post") if name in means
        ]
        lines.append(f"{how}, ms: {', '.join(times)}")
        memory = found["memory"]
        lines.append(f"needs {memory['flash']:,} B of flash and {memory['static_ram']:,} B of RAM")
    if checks:
        states = Counter(
            check["status"] if check["checked"] else "not available here"
            for check in read_json(checks, fix, CHECKS)["checks"]
        )
        lines.append(f"checks: {', '.join(f'{count} {state}' for state, count in states.items())}")
    if trial:
        heard = read_json(trial, fix, TRIAL)
        lines.append(
            f"played to the board: {heard['right']} of {heard['n']} right, "
            f"{heard['different']} inferences other than the host's"
        )
    folder = quote(str(run))
    return [
        *lines,
        "next:",
        f"  python -m host live {folder}             # your microphone, on a page",
        f"  python -m host monitor {folder} --mic    # the same in the terminal",
        f"  KWS_MODEL={quote(str(run / 'firmware'))} pio run -e nano33ble_aot -t upload",
    ]
