"""python tests/support/fuzz.py [MINUTES]: what nothing may break, tried at length, two processes side by side, in ten
minutes; prints a table of what was tried and every failure, and fails with one.

Readers of files: fuzz_readers.py. Commands that die or whose disk is full at many moments: killed.py. The trainer's own
files: test_kept_files.py with more examples.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
CORPUS = ROOT / "tests" / "golden" / "corpus"
MOMENTS, FULL_DISKS = 20, 3
COMMANDS = ["train", "qat", "quantize", "export", "evaluate", "clips", "convert", "negatives", "sweep", "search"]
SLOW = {"tflite": 4.0, "onnx": 4.0, "elf": 2.0, "artifact": 2.0}  # shares of the readers' time, others take 1
Row = tuple[str, str, list[str]]  # input, tried, failures


def asked(command: Sequence[str | Path], seconds: float) -> tuple[list[dict[str, object]], str]:
    """What a script printed as JSON objects, and why it did not end well."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SUPPORT}"}
    whole = [sys.executable, *command]
    try:
        done = subprocess.run(
            whole, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"not done after {seconds:.0f} s"
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]
    return found, "" if done.returncode == 0 else (done.stderr.strip() or done.stdout).splitlines()[-1][:300]


def reader(name: str, seconds: float, place: Path) -> Row:
    """A reader with files made from those of its corpus."""
    new = place / name
    found, wrong = asked([SUPPORT / "fuzz_readers.py", name, f"{seconds:.0f}", CORPUS / name, new], seconds + 240)
    tried = f"{found[0]['tried']:,} files" if found else "no count"
    kept = [str(file) for file in sorted(new.glob("fault*"))]
    return f"reader: {name}", tried, [f"{wrong} ({', '.join(kept) or 'no file'})"] if wrong or kept else []


def command(name: str, place: Path, seconds: float) -> Row:
    """A command that is killed, and whose disk is full, at many moments."""
    folder = place / f"killed {name}"
    folder.mkdir()
    given: list[str | Path] = [SUPPORT / "killed.py", folder, "0", str(MOMENTS), str(FULL_DISKS), name]
    found, wrong = asked(given, seconds)
    faults = [str(fault) for one in found for fault in one["faults"]]  # type: ignore[attr-defined]
    return f"command: {name}", f"{MOMENTS} kills, {FULL_DISKS} full disks", [*faults, *([wrong] if wrong else [])]


def own_files(examples: int) -> Row:
    """The trainer's own JSON files."""
    test = [sys.executable, "-m", "pytest", "-q", "tests/trainer/test_kept_files.py", "-k", "several"]
    environment = {**os.environ, "KWS_FUZZ_EXAMPLES": str(examples)}
    done = subprocess.run(test, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    faults = [line for line in done.stdout.splitlines() if line.startswith(("E  ", "FAILED"))]
    return "reader: the trainer's own files", f"{examples} files each", faults or ["failed"] * bool(done.returncode)


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    readers = sorted(file.name for file in CORPUS.iterdir())
    began, shares = time.monotonic(), sum(SLOW.get(name, 1.0) for name in readers)
    each = 60 * minutes * 2 * 0.3 / shares  # of two processes' time, the commands take the rest
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(command, name, place, 60 * minutes) for name in reversed(COMMANDS)]
        waiting.append(pool.submit(own_files, round(50 * minutes)))
        waiting += [pool.submit(reader, name, each * SLOW.get(name, 1.0), place) for name in readers]
        rows = [one.result() for one in waiting]
    for name, tried, faults in rows:
        print(f"{name:32} {tried:28} {len(faults) or 'no'} failures")
        for fault in faults:
            print(f"    {fault}")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes; what failed lies in {place}")
    sys.exit(any(faults for _, _, faults in rows))


if __name__ == "__main__":
    main()
