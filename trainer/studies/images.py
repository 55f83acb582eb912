"""Plain image CNNs as run folders of their own, trained with Adam, pruned and quantized by the code that serves the
keyword spotters.

RUN/images.json   what this is and what was measured      RUN/source.json   where the pictures lie on this machine
RUN/float.pt      the float network                       RUN/qat.pt        after quantization
RUN/model.onnx    the quantized integers, as `python -m converter convert` takes them
"""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from converter.checked import Anything, Fields, Named, Real, Text, Whole, check, json_in
from converter.checked import build as build_checked
from converter.files import write_atomic
from converter.spec import FeatureSpec
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import Architecture, Network, build, fold_norms
from trainer.network.onnx_export import to_onnx
from trainer.network.prune import hold_zeros, nonzero_count, prune, stored_bytes
from trainer.network.quant_options import QuantOptions
from trainer.run.fine_tune import learning_share
from trainer.run.fit import THREADS, load_torch, save_torch
from trainer.run.prune import PruneOptions
from trainer.run.quantize import METHODS

PIXELS = FeatureSpec(scale=1 / 255)  # of it a network takes only scale and zero point: a pixel is (int8 + 128) / 255
CIFAR_SHAPE, CIFAR_RECORD = (3, 32, 32), 1 + 3 * 32 * 32
CALIBRATION_PICTURES = 512
FINE_TUNE_SHARE = 0.5  # of the float learning rate; there is no validation split that could choose
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """uint8 [n, planes, rows, columns] and labels, for training and for testing; `title` says which they are."""

    title: str
    train: Bytes
    train_labels: Bytes
    test: Bytes
    test_labels: Bytes

    @property
    def classes(self) -> int:
        """Labels are 0 .. classes - 1."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1


@dataclass(frozen=True)
class ImageSettings:
    """Everything that decides a training."""

    epochs: int = 5
    batch: int = 100
    learning_rate: float = 1e-3
    seed: int = 0


_SCORED = Fields({"accuracy": Real(0, 100), "n": Whole(1)})
_FACTS = Fields(
    {
        **{"model": Text(), "pictures": Text(), "settings": Named(Anything())},
        "results": Fields(
            {"parameters": Whole(), "nonzero": Whole(), "train": _SCORED},
            {"qat": _SCORED, "prune": Fields({**_SCORED.needed, "kind": Text()})},
        ),
    }
)


@dataclass(frozen=True)
class ImageRun:
    """The facts of a run folder of pictures; results are JSON values."""

    path: Path
    model: str
    data: Path
    title: str
    settings: ImageSettings
    results: dict[str, Any]

    def save(self) -> ImageRun:
        """Write images.json and source.json."""
        facts = {"model": self.model, "pictures": self.title, "settings": asdict(self.settings)}
        facts["results"] = self.results
        write_atomic(self.path / "source.json", (json.dumps({"data": str(self.data)}) + "\n").encode())
        write_atomic(self.path / "images.json", (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
        return self

    @staticmethod
    def load(path: Path) -> ImageRun:
        """Read them; raises TrainerError when they are missing or damaged."""
        try:
            facts, source = (json_in(path / f"{name}.json") for name in ("images", "source"))
            check("images.json", facts, _FACTS)
            check("source.json", source, Fields({"data": Text(4096)}))
            settings = build_checked(ImageSettings, facts["settings"], "settings")
            return ImageRun(path, facts["model"], Path(source["data"]), facts["pictures"], settings, facts["results"])
        except (OSError, ValueError) as error:
            raise TrainerError(
                f"{path}: not a run of `python -m trainer images`, or damaged ({error}); make it again"
            ) from None


def is_image_run(run: Path) -> bool:
    """True for a folder that `trainer images` made."""
    return (run / "images.json").is_file()


def load_pictures(folder: Path) -> Pictures:
    """MNIST's idx files (gzipped or not), or CIFAR-10's binary files; with MNIST's 10,000 test digits alone, 8,000 of
    them train."""
    if any(folder.glob("data_batch_*.bin")):
        train = [_cifar(file) for file in sorted(folder.glob("data_batch_*.bin"))]
        return Pictures(
            "CIFAR-10",
            np.concatenate([t[0] for t in train]),
            np.concatenate([t[1] for t in train]),
            *_cifar(folder / "test_batch.bin"),
        )
    test, labels = _idx_pair(folder, "t10k")
    if any(folder.glob("train-images-idx3-ubyte*")):
        return Pictures("MNIST", *_idx_pair(folder, "train"), test, labels)
    order, cut = np.random.default_rng(0).permutation(len(test)), len(test) * 4 // 5
    return Pictures(
        f"{cut} and {len(test) - cut} of MNIST's test digits, training and test",
        test[order[:cut]],
        labels[order[:cut]],
        test[order[cut:]],
        labels[order[cut:]],
    )


def _idx_pair(folder: Path, split: str) -> tuple[Bytes, Bytes]:
    pictures, labels = (
        read_idx(folder, f"{split}-images-idx3-ubyte", 3)[:, None],
        read_idx(folder, f"{split}-labels-idx1-ubyte", 1),
    )
    if len(pictures) != len(labels):
        raise TrainerError(
            f"{folder}: pictures and labels must come in pairs, got {len(pictures)} and {len(labels)} of {split}; "
            "download the files again"
        )
    return pictures, labels


def read_idx(folder: Path, name: str, axes: int) -> Bytes:
    """An idx file of bytes: 0, 0, 8, the number of axes, each length as 32 bits with the highest byte first, the
    values."""
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise TrainerError(
            f"{folder}: must hold MNIST's idx files or CIFAR-10's binary files, got no {name}; give their folder"
        )
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise TrainerError(f"{path}: cannot be read ({error}); download it again") from None
    start = 4 + 4 * axes
    shape = (
        struct.unpack(f">{axes}I", raw[4:start]) if raw[:4] == bytes((0, 0, 8, axes)) and len(raw) >= start else None
    )
    if shape is None or len(raw) != start + int(np.prod(shape)):
        raise TrainerError(
            f"{path}: must be an idx file of {axes} axes, as long as it says, got {len(raw)} bytes; download it again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _cifar(file: Path) -> tuple[Bytes, Bytes]:
    """Records of a label and 3 planes of 32 x 32 bytes."""
    try:
        raw = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise TrainerError(
            f"{file}: cannot be read ({error}); name a folder with all of CIFAR-10's binary files"
        ) from None
    if not len(raw) or len(raw) % CIFAR_RECORD:
        raise TrainerError(
            f"{file}: must hold records of {CIFAR_RECORD} bytes, got {len(raw)} bytes; download it again"
        )
    records = raw.reshape(-1, CIFAR_RECORD)
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), records[:, 0]


def train_images(out: Path, data: Path, model: str, settings: ImageSettings, progress: Progress) -> ImageRun:
    """OUT: an image CNN trained from nothing. No picture of the test split decides anything."""
    pictures = load_pictures(data)
    torch.manual_seed(settings.seed)
    network = build(Architecture.of_pictures(model, pictures.classes, pictures.train.shape[1:]))
    fit_pictures(network, pictures, settings, progress, "training")
    run = ImageRun(out, model, data.resolve(), pictures.title, settings, {})
    return _keep_float(run, network, {"train": measured(network, pictures)})


def prune_images(run: Path, out: Path, options: PruneOptions, data: Path | None, progress: Progress) -> ImageRun:
    """OUT: RUN's network pruned and fine-tuned; another folder than RUN."""
    if out.resolve() == run.resolve():
        raise TrainerError(f"{out}: --out must be another folder than the run that is pruned; give a new one")
    if options.rewind is not None:
        raise TrainerError("--rewind: goes back in the training of a word network, got an image run; use --finetune")
    origin = ImageRun.load(run)
    pruned = prune(load_network(origin), options.kind, options.amount, options.norm)
    pictures = load_pictures(data or origin.data)
    facts = {**asdict(options), "before_finetune": measured(pruned, pictures)}
    if options.finetune:
        if options.kind == "unstructured":
            hold_zeros(pruned)
        settings = replace(
            origin.settings, epochs=options.finetune, learning_rate=origin.settings.learning_rate * FINE_TUNE_SHARE
        )
        fit_pictures(pruned, pictures, settings, progress, "fine-tuning")
    results = {
        **{k: v for k, v in origin.results.items() if k == "train"},
        "prune": {**facts, **measured(pruned, pictures)},
    }
    return _keep_float(replace(origin, path=out), pruned, results)


def quantize_images(
    run: Path, out: Path, method: str, options: QuantOptions, epochs: int | None, data: Path | None, progress: Progress
) -> ImageRun:
    """OUT: RUN's network with fake-quantized weights and hidden activations; step sizes from training pictures, learned
    in QAT."""
    if method not in METHODS:
        raise TrainerError(f"--method: must be one of {', '.join(METHODS)}, got {method}")
    origin = ImageRun.load(run)
    pictures = load_pictures(data or origin.data)
    network = load_network(origin)
    options = replace(options, fixed_steps=True)
    quant = QuantNetwork(fold_norms(network), PIXELS, options).eval()
    torch.set_num_threads(THREADS)
    quant.calibrate_steps(real(pictures.train[:CALIBRATION_PICTURES]))
    facts: dict[str, Any] = {"method": method, **asdict(options)}
    if method == "qat":
        if origin.results.get("prune", {}).get("kind") == "unstructured":
            hold_zeros(quant.network)
        rate = origin.settings.learning_rate * learning_share(options.bits)
        settings = replace(origin.settings, epochs=epochs or max(2, origin.settings.epochs // 4), learning_rate=rate)
        fit_pictures(quant, pictures, settings, progress, f"{options.bits}-bit training")
        facts["epochs"] = settings.epochs
    made = _keep_float(
        replace(origin, path=out), network, {**origin.results, "qat": {**facts, **measured(quant, pictures)}}
    )
    save_torch(
        out / "qat.pt",
        {"architecture": asdict(network.architecture), "state": quant.state_dict(), "options": asdict(options)},
    )
    if options.scheme != "asymmetric-weights":
        write_atomic(out / "model.onnx", to_onnx(quant, None))
    return made


def _keep_float(run: ImageRun, network: Network, results: dict[str, Any]) -> ImageRun:
    facts = {
        "parameters": network.parameter_count,
        "nonzero": nonzero_count(network),
        "macs": macs(network),
        "bytes": asdict(stored_bytes(network, 4)),
    }
    save_torch(run.path / "float.pt", {"architecture": asdict(network.architecture), "state": network.state_dict()})
    for name in ("qat.pt", "model.onnx"):
        (run.path / name).unlink(missing_ok=True)
    return replace(run, results={**results, **facts}).save()


def load_network(run: ImageRun) -> Network:
    """The float network; raises TrainerError when float.pt is damaged."""
    state = load_torch(run.path / "float.pt")
    try:
        network = build(Architecture(**state["architecture"]))
        network.load_state_dict(state["state"])
    except (KeyError, TypeError, RuntimeError):
        raise TrainerError(
            f"{run.path / 'float.pt'}: not a checkpoint of this project; train again or restore it"
        ) from None
    return network.eval()


def real(pictures: Bytes) -> Tensor:
    """Pixels as a network takes them, 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).float() / 255


def fit_pictures(
    network: nn.Module, pictures: Pictures, settings: ImageSettings, progress: Progress, title: str
) -> None:
    """Train in place with Adam, its step falling to nothing along a cosine; every draw comes from the seed."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(settings.seed)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    steps = settings.epochs * -(-len(pictures.train) // settings.batch)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    task = progress.add_task(title, total=steps)
    network.train()
    for _ in range(settings.epochs):
        for chosen in np.array_split(
            torch.randperm(len(pictures.train)).numpy(), -(-len(pictures.train) // settings.batch)
        ):
            logits = network(real(pictures.train[chosen]))
            optimizer.zero_grad()
            F.cross_entropy(logits, torch.from_numpy(pictures.train_labels[chosen]).long()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            falling.step()
            progress.advance(task)
    network.eval()


def measured(network: nn.Module, pictures: Pictures) -> dict[str, Any]:
    """Accuracy in percent on the test pictures, and how many they are."""
    network.eval()
    with torch.no_grad():
        found = np.concatenate(
            [network(real(pictures.test[i : i + 500])).argmax(1).numpy() for i in range(0, len(pictures.test), 500)]
        )
    return {"accuracy": round(100 * float((found == pictures.test_labels).mean()), 2), "n": len(found)}


def macs(network: Network) -> int:
    """Multiply-accumulates for one picture."""
    count, x = (
        0,
        torch.zeros(1, network.architecture.planes, network.architecture.frames, network.architecture.channels),
    )
    with torch.no_grad():
        for block in network.blocks.values():
            x = block(x)
            weight = getattr(block, "weight", None)
            count += 0 if weight is None else weight.numel() * (x.shape[2] * x.shape[3] if x.dim() == 4 else 1)
    return count
