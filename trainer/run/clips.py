"""Test clips as WAV files, for trials on a board: DIR/<label>/<name>.wav."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from converter.files import WriteError, scratch_folder
from converter.run_folder import ModelArtifact
from trainer.data.augment import load_split
from trainer.data.dataset import in_sha256_order
from trainer.data.recordings import write_wav
from trainer.errors import TrainerError
from trainer.run.steps import CACHE, Source


def write_test_clips(run: Path, out: Path, per_class: int, source: Source | None, progress: Progress) -> list[Path]:
    """The first `per_class` test clips of every class in SHA-256 order of their names; all files or none. `out` must
    not exist yet."""
    if out.exists():
        raise TrainerError(f"{out}: exists already; remove it or name another folder")
    artifact = ModelArtifact.load(run)
    test = load_split((source or Source.load(run)).selection(artifact.spec, progress), "test", CACHE, progress)
    place = {name: index for index, name in enumerate(test.names)}
    written = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(out.parent, ".kws-") as scratch:
        for index, label in enumerate(artifact.spec.labels):
            chosen = [name for name in in_sha256_order(test.names) if test.labels[place[name]] == index][:per_class]
            if len(chosen) < per_class:
                raise TrainerError(
                    f"--per-class {per_class}: the test split holds {len(chosen)} clips of '{label}'; ask for fewer"
                )
            for name in chosen:
                file = Path(label) / (name.replace("/", "_") + ".wav")
                write_wav(scratch / "clips" / file, test.pcm[place[name]])
                written.append(out / file)
        try:
            (scratch / "clips").rename(out)
        except OSError as error:
            raise WriteError.of(out, error) from None
    return written
