"""One candidate in a worker: a short training without a group of speakers, misses at the wanted rate on that group, and
the trained network on the virtual board. Every result is a file written whole."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from converter.arrays import Int8, Json
from converter.checked import Fields, Flag, Items, Named, Real, Text, Whole, check, json_in
from converter.files import read_json_object, write_json
from converter.run_folder import ModelArtifact
from converter.spec import DetectorSpec, KwsSpec
from trainer.board import BoardTools
from trainer.data.augment import LabelledClips, load_split
from trainer.data.dataset import noise_backgrounds
from trainer.data.features import stream_features
from trainer.data.negatives import load_negatives
from trainer.data.scene_studio import SceneSettings
from trainer.data.scenes import Scenes, speaker_groups
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import build, fold_norms
from trainer.network.onnx_export import npz_bytes, to_onnx, vectors
from trainer.network.quant_options import QuantOptions
from trainer.run.fine_tune import calibrate
from trainer.run.fit import THREADS, fit, load_torch, save_torch
from trainer.run.operating_point import (
    WANTED,
    Heard,
    PlayedWords,
    chosen_by,
    logit_scale,
    mean_evidence,
    played_words,
    stream_outputs,
)
from trainer.run.steps import CACHE, STREAM_SETTINGS, Source, pool_of, save_run
from trainer.search.genes import Genes

LEFT_OUT = 0  # the group of speakers that no candidate hears in training
RUNGS = ((1, 0.2), (2, 0.4), (4, 0.8))  # (epochs, share of the scenes): each four times as long as the one before
BOARD_INPUTS = 10
OPTIONS = QuantOptions(8, calibration="mse")  # no fine-tuning: ranges from scenes, which costs little at 8 bits


# What the files of a search hold.
TRIED = Fields({"misses": Real(0, 1), "rates": Named(Real(0, 1)), "loss": Real(), "seconds": Real()})
_COSTS = dict.fromkeys(("hop_cycles", "flash", "ram"), Real())
ON_BOARD = Fields({**_COSTS, "differences": Whole(), "inputs": Whole()})
_ROW = Fields(
    {
        **dict.fromkeys(("kernels", "widths"), Items(Whole(1, 10_000), 1, 100)),
        **{"rung": Whole(0, 100), "misses": Real(0, 1), "known": Text(), "on_board": Flag(), "train": Text(10_000)},
        **_COSTS,
    },
    {"differences": Whole()},
)
SEARCH = Fields(
    {
        "found": Named(Fields({"trained": Items(Whole(), 1), "candidates": Items(_ROW)})),
        **{"limits": Fields(dict.fromkeys(("hop_ms", "flash_kb", "ram_kb"), Real()), closed=True)},
        "validation_words": Whole(),
    },
    {"words": Items(Text(), 1, 1000)},
)


@dataclass(frozen=True)
class SearchJob:
    """What a worker has to know of a search."""

    folder: Path
    cwd: Path
    source: Source
    words: tuple[str, ...]
    scenes: int | None = None  # made in all; None: as many as `train` makes
    board: BoardTools | None = None

    @property
    def spec(self) -> KwsSpec:
        """Words and features."""
        return KwsSpec.of_words(list(self.words))

    def file(self, genes: Genes, name: str) -> Path:
        """A result of a candidate."""
        return self.folder / "candidates" / genes.key / name


@dataclass(frozen=True)
class Trial:
    """A candidate at a rung."""

    genes: Genes
    rung: int


@dataclass(frozen=True, eq=False)
class _Material:
    pool: Scenes
    validation: LabelledClips
    words: PlayedWords  # of the validation split
    left: list[tuple[str, float, Int8]]  # name, seconds, frames


@lru_cache(maxsize=1)
def material(job: SearchJob) -> _Material:
    """Scenes without the speakers left out, the features of their speech, validation words. Raises TrainerError."""
    quiet, spec = Progress(disable=True), job.spec
    assert job.source.negatives is not None
    selection = job.source.selection(spec, quiet)
    scenes = SceneSettings(count=job.scenes) if job.scenes else SceneSettings()
    settings = replace(STREAM_SETTINGS, scenes=scenes, hard=None)
    pool = pool_of(job.source, selection, settings, quiet)
    assert isinstance(pool, Scenes)
    streams = load_negatives(Path(job.source.negatives), spec.words, "train")
    groups = speaker_groups([stream for stream, _ in streams])
    left = [
        (s.name, s.seconds, stream_features(pcm, spec.features)) for s, pcm in streams if groups[s.name] == LEFT_OUT
    ]
    validation = load_split(selection, "validation", CACHE, quiet)
    if not left or not int((validation.labels >= 2).sum()):
        raise TrainerError(
            f"{job.source.negatives}: a search needs continuous speech of training speakers to count false accepts on, "
            f"and validation words; add some with `python -m trainer negatives`"
        )
    detector = DetectorSpec.untuned(len(spec.words))
    words = played_words(validation, noise_backgrounds(selection, "validation"), spec.features, detector)
    return _Material(pool.without({LEFT_OUT}), validation, words, left)


def facts(job: SearchJob) -> Json:
    """What decides every result beside the genes; makes the scenes, before workers read them. Raises TrainerError."""
    has = material(job)
    found = {
        "words": list(job.words),
        "rungs": [list(rung) for rung in RUNGS],
        "scenes": has.pool.identity,
        "validation_words": len(has.words.spoken),
        "left_out_hours": round(sum(seconds for _, seconds, _ in has.left) / 3600, 3),
    }
    material.cache_clear()
    return found


def claim(job: SearchJob, wanted: Json) -> Json:
    """SEARCH/search.json, {**wanted, "found": {strategy: what it found}}; a folder of other facts is refused."""
    file = job.folder / "search.json"
    if not file.is_file():
        write_json(file, {**wanted, "found": {}})
    try:
        every: Json = json_in(file)
        check("", every, SEARCH)
        rows = [row for one in every["found"].values() for row in one["candidates"]]
        if any(len(row["kernels"]) != len(row["widths"]) for row in rows):
            raise ValueError("every candidate must have as many kernels as widths")
    except (OSError, ValueError) as error:
        raise TrainerError(f"{file}: damaged ({error}); remove it, the trainings stay") from None
    if differs := [key for key, value in wanted.items() if every.get(key) != json.loads(json.dumps(value))]:
        raise TrainerError(f"{job.folder}: holds a search with other {', '.join(differs)}; give another --out")
    return every


def train_candidate(job: SearchJob, trial: Trial) -> Json:
    """{"misses", "rates", "seconds", "loss"} of a candidate after the training of its rung; kept in a file."""
    os.chdir(job.cwd)
    torch.set_num_threads(THREADS)
    file = job.file(trial.genes, f"rung{trial.rung}.json")
    if found := read_json_object(file, TRIED):
        return found
    has, spec = material(job), job.spec
    started = time.perf_counter()
    epochs, share = RUNGS[trial.rung]
    seed = int(hashlib.sha256(trial.genes.key.encode()).hexdigest()[:8], 16)
    settings = replace(STREAM_SETTINGS, epochs=epochs, seed=seed, hard=None)
    pool = has.pool.part(slice(max(1, round(share * has.pool.epoch_size))))
    torch.manual_seed(seed)
    network = build(trial.genes.architecture(len(spec.labels), spec.features, settings.dropout))
    checkpoint = job.file(trial.genes, f"rung{trial.rung}.training.pt")
    history = fit(network, pool, has.validation, settings, spec.features, checkpoint, Progress(disable=True))
    quant = QuantNetwork(fold_norms(network), spec.features, OPTIONS)
    calibrate(quant, pool, seed)
    quant.eval()
    scale = logit_scale(quant)
    heard = [Heard(key, lasts, mean_evidence(stream_outputs(quant, x), scale)) for key, lasts, x in has.left]
    detector, rates = chosen_by(heard, quant, has.words, DetectorSpec.untuned(len(spec.words)), WANTED)
    save_torch(
        job.file(trial.genes, f"quant{trial.rung}.pt"), {"state": quant.state_dict(), "detector": asdict(detector)}
    )
    found = {
        "misses": rates[str(WANTED)],
        "rates": rates,
        "loss": round(history[-1].train_loss, 4),
        "parameters": network.parameter_count,
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_json(file, found)
    checkpoint.unlink(missing_ok=True)
    return found


def run_on_board(job: SearchJob, trial: Trial) -> Json:
    """The candidate after the training of its rung as firmware on the virtual board: {"hop_cycles", "flash", "ram",
    "differences", "inputs"}; kept in a file."""
    os.chdir(job.cwd)
    torch.set_num_threads(THREADS)
    genes, spec = trial.genes, job.spec
    file, run = job.file(genes, f"board{trial.rung}.json"), job.file(genes, "run")
    if found := read_json_object(file, ON_BOARD):
        return found
    assert job.board
    has, state = material(job), load_torch(job.file(genes, f"quant{trial.rung}.pt"))
    network = fold_norms(build(genes.architecture(len(spec.labels), spec.features, 0.0)).eval())
    quant = QuantNetwork(network, spec.features, OPTIONS)
    quant.load_state_dict(state["state"])
    quant.eval()
    detector = DetectorSpec.from_json(json.loads(json.dumps(state["detector"])))
    artifact = ModelArtifact(run, spec, detector, "tcn", "search", 0, {})
    chosen = np.arange(min(BOARD_INPUTS, len(has.validation.labels)))
    part = has.validation
    arrays = vectors(quant, part.pcm[chosen], part.features[chosen], part.labels[chosen])
    save_run(artifact, {"model.onnx": to_onnx(quant, spec), "vectors.npz": npz_bytes(arrays)})
    figures = job.board.evaluate(run, BOARD_INPUTS)
    found = {
        "hop_cycles": figures["cycles_stream_hop"],
        "flash": figures["engine_flash_bytes"],
        "ram": figures["engine_ram_bytes"],
        "differences": figures["differences"],
        "inputs": figures["inputs"],
    }
    write_json(file, found)
    return found
