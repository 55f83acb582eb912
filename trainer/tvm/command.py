"""The command's one door: says in a sentence when TVM is not installed, before anything imports it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from trainer.errors import TrainerError

PACKAGES = {"tvm": "apache-tvm", "xgboost": "xgboost-cpu"}


def run_command(
    what: str, run: Path, target: str, method: str, size: str, trials: int, replay: bool, generator: str, out: Path
) -> list[str]:
    """The lines to print."""
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise TrainerError(
            f"tvm: needs the optional packages of the extra tvm, got no {' and no '.join(missing)}; pip install "
            f"-e '.[tvm]'"
        )
    from trainer.tvm import studies

    if what == "firmware":
        from trainer.tvm.cortex_firmware import write_firmware

        studies.one_of("method", method, ("original", "manual"))
        write_firmware(run, out, None if method == "manual" else 0, generator)
        return [f"{out / 'firmware'}: build it with `python -m host build {out}`"]
    if what == "table":
        return [str(studies.write_table(out if out.suffix else out / "table.md"))]
    return studies.study(what, target, method, size, trials, replay, out)
