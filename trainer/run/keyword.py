"""From takes of a person's own word to a firmware and a report, in one command.

    takes -> data folder -> training from a network that knows other words -> int8 -> ONNX -> C -> image -> report

Everything is a step of the line that has a command of its own; RUN/keyword.json names the steps that are done, for what
they were done, and how long they took, so that a command that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.progress import Progress

from converter import convert as conversion
from converter.arrays import Json
from converter.checked import Fields, Named, Real, Text
from converter.errors import ConvertError
from converter.files import alone, read_json_object, write_atomic, write_json
from converter.run_folder import ModelArtifact
from converter.spec import KwsSpec
from converter.verify.checks import DIFFERENT
from converter.verify.run import run_checks, to_json
from trainer.board import BoardTools
from trainer.data import negatives
from trainer.data.cache import digest
from trainer.data.scene_studio import SceneSettings
from trainer.data.scenes import CHUNK
from trainer.errors import TrainerError
from trainer.network.quant_options import QuantOptions
from trainer.run import steps
from trainer.run.evaluate import evaluate_run
from trainer.run.false_accepts import Listening
from trainer.run.fit import TrainSettings
from trainer.run.own_word import LIST, data_folder, listed_takes
from trainer.run.quantize import quantize_run

DONE = "keyword.json"
DONE_RULE = Fields({"of": Text(100), "seconds": Named(Real()), "products": Named(Text(100))})
UNFINISHED = "unfinished"  # in a folder of negatives that this command is making
KNOWN_WORDS = Path(__file__).parents[2] / "reference" / "words"  # the run that a word of one's own starts from
PROFILE_RUNS, VERIFY_INPUTS = 10, 60
# Chosen on other words than those that docs/own_keyword.md measures.
SETTINGS = replace(
    steps.STREAM_SETTINGS,
    epochs=6,
    hard=None,
    scenes=SceneSettings(count=64 * CHUNK, spoken=400, recorded_share=0.6, isolated=2500),
)


@dataclass(frozen=True)
class Keyword:
    """What `trainer keyword` is asked for: words, the folder of their takes, the folder of negatives (made where it is
    not there), the run to make, a run whose layers to start from (None: from a random state), the seed."""

    words: tuple[str, ...]
    takes: Path
    negatives: Path
    run: Path
    start: Path | None
    seed: int = 0
    settings: TrainSettings = field(default_factory=lambda: SETTINGS)

    @property
    def spec(self) -> KwsSpec:
        """Words and features."""
        return KwsSpec.of_words(list(self.words))


def make_keyword(asked: Keyword, board: BoardTools, progress: Progress) -> dict[str, float]:
    """The run folder with firmware, image and report; seconds of each step. Raises TrainerError, ConvertError."""
    run = asked.run
    _require_apart({"--takes": asked.takes, "--negatives": asked.negatives, "--out": run})
    listed_takes(asked.takes, asked.words, asked.spec.features)  # what cannot be is said before anything takes long
    if asked.start:
        steps.load_float(ModelArtifact.load(asked.start))
    _fetch_negatives(asked.negatives, progress)
    data = data_folder(asked.takes, asked.spec, run / "data", steps.CACHE, progress)
    source = steps.Source(
        str(data.resolve()),
        negatives=str(asked.negatives.resolve()),
        start=str(asked.start.resolve()) if asked.start else None,
    )
    key = _key(asked, data)
    kept = read_json_object(run / DONE, DONE_RULE)
    products: dict[str, str] = kept["products"] if kept.get("of") == key else {}
    done = _still_done(run, products)
    products = {name: products[name] for name in done}
    seconds: dict[str, float] = {name: kept["seconds"][name] for name in done}
    task = progress.add_task("steps", total=len(STEPS), completed=len(done))
    for name, (step, product) in STEPS.items():
        if name in done:
            continue
        progress.update(task, description=f"steps: {name}")
        began = time.monotonic()
        step(asked, source, board, progress)
        seconds[name] = round(time.monotonic() - began, 1)
        products[name] = digest(run / product)
        write_json(run / DONE, {"of": key, "seconds": seconds, "products": products})
        progress.advance(task)
    return seconds


def _require_apart(folders: dict[str, Path]) -> None:
    for (first, a), (second, b) in combinations(folders.items(), 2):
        outer, inner = sorted((a.resolve(), b.resolve()), key=lambda folder: len(folder.parts))
        if inner.is_relative_to(outer):
            raise TrainerError(f"{first} {a} and {second} {b}: must not lie in each other; name another {second}")


def _still_done(run: Path, products: dict[str, str]) -> list[str]:
    """The first steps whose products are there. One that another command has changed since is kept, and what comes
    behind it is made anew."""
    done = []
    for name, (_, product) in STEPS.items():
        if name not in products or not (run / product).is_file():
            break
        done.append(name)
        if digest(run / product) != products[name]:
            break
    return done


def _fetch_negatives(folder: Path, progress: Progress) -> None:
    """All sources, where there is no folder of negatives or this has not finished one."""
    marker = folder / UNFINISHED
    if not (folder / negatives.INDEX).is_file() or marker.is_file():
        with alone(folder):
            write_atomic(marker, b"")
            negatives.make_negatives(folder, negatives.SOURCES, (), progress)
            marker.unlink()


def _key(asked: Keyword, data: Path) -> str:
    start = digest(asked.start / "float.pt") if asked.start else None
    made_of: list[Any] = [(data / LIST).read_text(), asked.words, asked.seed, repr(asked.settings), start]
    made_of += [digest(asked.negatives / negatives.INDEX)]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _train(asked: Keyword, source: steps.Source, _: BoardTools, progress: Progress) -> None:
    settings = replace(asked.settings, seed=asked.seed)
    steps.train_run(asked.run, source, asked.spec, "tcn", settings, progress)


def _quantize(asked: Keyword, source: steps.Source, _: BoardTools, progress: Progress) -> None:
    quantize_run(asked.run, asked.run, "qat", QuantOptions(), None, source, progress)


def _export(asked: Keyword, source: steps.Source, _: BoardTools, progress: Progress) -> None:
    steps.export_run(asked.run, source, progress)


def _convert(asked: Keyword, *_: object) -> None:
    conversion.write_all(conversion.render(conversion.load(asked.run)), asked.run / "firmware")


def _build(asked: Keyword, _: steps.Source, board: BoardTools, __: Progress) -> None:
    board.build(asked.run / "firmware", asked.run / "build")


def _verify(asked: Keyword, _: steps.Source, board: BoardTools, progress: Progress) -> None:
    task = progress.add_task("checks", total=None)
    checks = run_checks(
        asked.run,
        VERIFY_INPUTS,
        image(asked.run),
        None,
        board.checks,
        lambda claim: progress.update(task, description=claim),
    )
    progress.remove_task(task)
    write_json(asked.run / "checks.json", to_json(checks))
    if checks.differs:
        first = next(check for check in checks.checks if check.status == DIFFERENT)
        raise ConvertError(f"{first.claim}: {first.differences} of {first.checked} differ, first {first.detail}")


def _profile(asked: Keyword, _: steps.Source, board: BoardTools, __: Progress) -> None:
    write_json(asked.run / "profile.json", board.profile(image(asked.run), PROFILE_RUNS))


def _evaluate(asked: Keyword, _: steps.Source, __: BoardTools, progress: Progress) -> None:
    evaluate_run(asked.run, None, progress, Listening((asked.negatives,)))


def _report(asked: Keyword, _: steps.Source, board: BoardTools, __: Progress) -> None:
    board.report(asked.run, profile=asked.run / "profile.json", checks=asked.run / "checks.json")


IMAGE = "build/emulator/firmware.elf"
# name -> what does it, and the file in RUN that shows it done
STEPS: dict[str, tuple[Callable[[Keyword, steps.Source, BoardTools, Progress], None], str]] = {
    "train": (_train, "float.pt"),
    "qat": (_quantize, "qat.pt"),
    "export": (_export, "model.onnx"),
    "evaluate": (_evaluate, "evaluation.json"),
    "convert": (_convert, "firmware/kws_model.h"),
    "build": (_build, IMAGE),
    "verify": (_verify, "checks.json"),
    "profile": (_profile, "profile.json"),
    "report": (_report, "report.html"),
}


def image(run: Path) -> Path:
    """The firmware of a run for the virtual board."""
    return run / IMAGE


def summary(asked: Keyword, seconds: dict[str, float]) -> list[str]:
    """What a person reads at the end: how well, how fast, what next."""
    artifact = ModelArtifact.load(asked.run)
    found: Json = json.loads((asked.run / "evaluation.json").read_text())["listening_streams"]
    shipped, clean = found["shipped"], found["conditions"][0]
    lines = [
        f"{', '.join(asked.words)}: {clean['misses']} of {clean['words']} test takes missed, "
        f"{shipped['false_accepts']} false accepts in {found['hours']:.1f} h of speech without it "
        f"(95 % bound {shipped['bound']:.1f} an hour)",
    ]
    lines += [f"synthetic voices, which are no people: {v['misses']} of {v['words']} missed" for v in found["voices"]]
    if artifact.results.get("split") == "take":
        lines.append("the test takes are of people who trained it: how others are heard is not known")
    took = sum(seconds.values())
    lines.append(f"{took / 60:.1f} minutes; {asked.run / 'report.html'}")
    lines.append(f"try it: python -m host live {asked.run}")
    lines.append(f"flash it: KWS_MODEL={asked.run / 'firmware'} pio run -e nano33ble_aot -t upload")
    return lines
