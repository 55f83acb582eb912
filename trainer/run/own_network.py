"""A network of one's own, from `my_net.py:Net` to what a run keeps of it.

The file is executed here and nowhere else, when `train --network` names it. A run folder holds a copy of it
(network.py) with its hash in artifact.json, to be read and trained again; what later commands need are the layers in
the checkpoints, which are data.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from converter.aot.estimate import Estimate
from converter.convert import Source, render
from converter.errors import ConvertError
from converter.onnx_qdq.reader import read_onnx
from converter.run_folder import OwnNetwork
from converter.spec import KwsSpec
from trainer.errors import TrainerError
from trainer.network.estimate import estimate_layers
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import OWN, Architecture, Network, build, fold_norms
from trainer.network.onnx_export import to_onnx
from trainer.network.quant_options import QuantOptions
from trainer.network.trace import matches, told, trace, where_raised

LABELS = ("labels", "num_labels", "n_labels", "num_classes", "n_classes", "classes")
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class ReadNetwork:
    """Someone's network as this project has it: what it is, its layers, its initial weights, and the file's bytes."""

    about: OwnNetwork
    architecture: Architecture
    state: dict[str, Tensor]
    source: bytes

    def network(self) -> Network:
        """With the weights that the constructor gave."""
        made = build(self.architecture)
        made.load_state_dict(self.state)
        return made

    def estimate(self, spec: KwsSpec) -> Estimate:
        """What it will take on the board."""
        return estimate_layers(self.architecture.layers, spec, spec.features)


def read_network(named: str, spec: KwsSpec, seed: int) -> ReadNetwork:
    """The network of `FILE.py:CLASS` for the spec's features and labels, its constructor in torch's random state of the
    seed; raises TrainerError for all that no later command could do with it."""
    name, _, kind = named.rpartition(":")
    if not name or not kind.isidentifier():
        raise TrainerError(f"--network: names a file and a class in it, as my_net.py:Net, got {named}")
    file, labels = Path(name), len(spec.labels)
    try:
        source = file.read_bytes()
    except OSError as error:
        raise TrainerError(f"{file}: cannot be read ({error.strerror}); --network names a Python file") from None
    if len(source) > MAX_BYTES:
        raise TrainerError(f"{file}: a network's file has at most {MAX_BYTES} bytes, got {len(source)}")
    torch.manual_seed(seed)
    module = _made(file, source, kind, labels)
    shape = (1, spec.features.frames, spec.features.channels)
    traced = trace(module, shape, labels, file)
    architecture = Architecture(OWN, labels, *shape[1:], width=0, dropout=0.0, layers=traced.layers)
    about = OwnNetwork(file.name, kind, hashlib.sha256(source).hexdigest())
    read = ReadNetwork(about, architecture, traced.state, source)
    network = read.network()
    if not matches(module, network, shape):
        raise TrainerError(
            f"{file.name}: {kind} computes something else than its layers in order, as where one changes its input in "
            f"place or does not do the same each time; write it so that each layer gives a new tensor"
        )
    _try_line(network, spec, kind, file, traced.places)
    return read


def _made(file: Path, source: bytes, kind: str, labels: int) -> nn.Module:
    """The class's module, its constructor called; raises TrainerError."""
    try:
        code = compile(source, str(file), "exec")
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise TrainerError(f"{file.name}{line}: not Python ({told(error)})") from None
    place = types.ModuleType("kws_own_network")
    place.__file__ = str(file)
    sys.modules[place.__name__] = place  # dataclasses and typing look a class's module up
    _run(file, "the file", lambda: exec(code, place.__dict__))
    found = place.__dict__.get(kind)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        here = [n for n, one in vars(place).items() if isinstance(one, type) and issubclass(one, nn.Module)]
        here = [n for n in here if vars(place)[n].__module__ == place.__name__]
        raise TrainerError(f"{file.name}: has no torch.nn.Module {kind}; it has {', '.join(here) or 'none'}")
    arguments = inspect.signature(found).parameters.values()
    plain = [one for one in arguments if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    needed = [one.name for one in plain if one.default is one.empty]
    if len(needed) > 1:
        raise TrainerError(
            f"{file.name}: {kind}({', '.join(needed)}) needs more than the number of labels; give the others defaults"
        )
    named = needed or [one.name for one in plain if one.name in LABELS][:1]
    made: nn.Module = _run(file, f"{kind}({labels if named else ''})", lambda: found(**dict.fromkeys(named, labels)))
    return made


def _run(file: Path, what: str, does: Callable[[], nn.Module | None]) -> nn.Module:
    """What the user's code gives; its exception as TrainerError with its line."""
    try:
        return does()  # type: ignore[return-value]
    except (Exception, SystemExit) as error:
        raise TrainerError(f"{where_raised(error, file)}: {what} raises {told(error)}") from None


def _try_line(network: Network, spec: KwsSpec, kind: str, file: Path, places: dict[str, str]) -> None:
    """Takes the untrained network down the whole line, so that what the converter cannot do is said before training."""
    quant = QuantNetwork(fold_norms(network.eval()), spec.features, QuantOptions(fixed_steps=True))
    shape = (8, 1, spec.features.frames, spec.features.channels)
    quant.eval().calibrate_steps(torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 26)
    try:
        render(Source(read_onnx(to_onnx(quant, spec)), kind))
    except ConvertError as error:
        layer = str(error).partition(":")[0].partition("/")[0]
        raise TrainerError(f"{places.get(layer, file.name)}: {error}") from None
