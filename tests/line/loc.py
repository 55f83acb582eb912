"""Lines of product and tests by folder, generated files apart. `make loc` prints them; standard library only."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = {".py", ".c", ".cpp", ".h", ".ino", ".ld"}
GENERATED = ("firmware/generated", "firmware/generated_spotter")
# Lines. Product: 38,600 after the house (its aim was 38,000; MEAN 190 of them, sentences on public names 230), and
# 330 for negatives; 410 for the detector by evidence; 660 for training for streams; 990 for misses against false
# accepts; 290 for public wake words; 80 for the board's rows and speakers told apart; 400 for a virtual board that
# always ends; 640 for checked files, builds without a shell and files as a set; 280 for what data folders hold; 330
# for depthwise convolutions along time; 430 for the check that starts from the file; 40 for lone pixels and warped
# frequencies; 90 for a link in step and workers that end; 1,150 for the search of networks; 1,190 for expected cycles
# and constants in RAM; 1,210 for gradient compression; 450 for files that are checked and commands that may be
# killed; 800 for snapshots of the board; 380 for GPUs that are named and timed; 180 for tickets, shares and formats
# of the course; 1,000 for the live page and sound into the microphone while the board runs, 730 for takes recorded
# and found, 390 for a word of one's own, 450 for recording by the board and negatives with transcripts, 1,420 for
# operators of others' models and all their blockers at once, 260 for speech in games and what int8 costs a listener,
# 1,040 for what exporters of ONNX write, 570 for models that keep state, wake words of others, maxima and hard
# swishes, 540 for the course by one command, a rate of fine-tuning that validation chooses, and a sweep's picture,
# 150 for others' keyword models that listen, 70 for the counters of the cache, 870 for models that TensorFlow Lite
# Micro alone runs: file to firmware, their ends of any type, and its sources in a build, 50 for what an own word's
# folders and files must be, 60 for hard negatives, 80 for the speeds of all MLPerf models as a picture, 800 for
# networks of one's own: read by torch.fx, their layers as data, refusals with file and line, 1,250 for cycles, flash
# and RAM before anything is built, 640 for the library: its zip, kws.h and five sketches, 240 for channels that no
# input changes and convolutions of few values a patch, 140 for ADD by weights, 60 for a report
# in a few lines.
# Tests: 16,350 after the house, 150 for negatives, 350 for the detector, 270 for training for streams, 470 for misses
# against false accepts, 210 for public wake words; 1,700 for what hostile input may do; 300 for depthwise
# convolutions along time; 780 for the check that starts from the file and its fuzzer; 450 for a link in step and
# workers that end; 320 for the search; 200 for expected cycles; 380 for gradient compression; 1,010 for files made
# wrong and commands killed; 620 for snapshots and hours; 600 for the course's leaves and shares; 600 for the live
# page in a browser, 600 for recording and import, 210 for one's own word, 280 for recording by the board and
# negatives with transcripts, 870 for operators of others' models, 230 for speech in games, 890 for what exporters of
# ONNX write, 540 for models that keep state, wake words of others and rows, 300 for the course by one command and
# pruning, 120 for others' keyword models that listen, 210 for models that TensorFlow Lite Micro alone runs, 30 for an
# own word's folders, 50 for hard negatives, 30 for pages that link to pages, 390 for networks of one's own, 150 for
# estimates, 270 for the library, 150 for channels that no input changes, 80 for ADD by weights.
BUDGET = {"product": 60_250, "tests": 30_340}


def folder_of(path: str) -> str:
    """The first two folders of a path, "." for a file at the top."""
    return "/".join(Path(path).parts[:-1][:2]) or "."


def lines_by_folder() -> Counter[str]:
    """Folder -> lines of the Python and C files that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines: Counter[str] = Counter()
    for path in listed.split("\0"):
        if Path(path).suffix in CODE and (ROOT / path).is_file():
            lines[folder_of(path)] += (ROOT / path).read_bytes().count(b"\n")
    return lines


def totals(lines: Counter[str]) -> dict[str, int]:
    """Lines of "product", "tests" and "generated"."""
    sums = {"product": 0, "tests": 0, "generated": 0}
    for folder, count in lines.items():
        kind = "generated" if folder in GENERATED else "tests" if folder.split("/")[0] == "tests" else "product"
        sums[kind] += count
    return sums


if __name__ == "__main__":
    counted = lines_by_folder()
    for name, count in sorted(counted.items()):
        print(f"{count:8,}  {name}")
    for name, count in totals(counted).items():
        print(f"{count:8,}  {name}" + (f", of at most {BUDGET[name]:,}" if name in BUDGET else ""))
