"""How the workers' gradients become one: DDP communication hooks, torch's own where it has them, over a wire that
counts."""

# Without `from __future__ import annotations`: DDP compares a hook's annotations with types, not with their names.
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, post_localSGD_hook, powerSGD_hook
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.futures import Future

from trainer.distributed import codecs

METHODS = ("none", "fp16", "topk", "randomk", "sign", "qsgd", "powersgd1", "powersgd2", "powersgd4", "local")
PLAIN_STEPS = 2  # all-reduced before PowerSGD begins: torch asks for them where errors are fed back


@dataclass(frozen=True)
class Strength:
    """How much the methods compress: share of values (top-k, random-k), bits (QSGD), steps between two averages."""

    share: float = 0.01
    bits: int = 4
    period: int = 8


class Wire:
    """A process group that counts what is handed to it: what torch's own hooks ask of a group, and `gather`.

    payload_bytes is what this worker hands over; ring_bytes what rings of n workers make of it: 2 (n - 1) / n of an
    all-reduce and n - 1 times an all-gather. inside, returned_at: the thread's CPU seconds spent in collectives, and
    when it left the last one.
    """

    def __init__(self, group: Any) -> None:
        self.group = group
        self.payload_bytes, self.ring_bytes = 0, 0.0
        self.returned_at = self.inside = 0.0

    def size(self) -> int:
        """Workers."""
        return int(self.group.size())

    def rank(self) -> int:
        """This worker, from 0."""
        return int(self.group.rank())

    def allreduce(self, tensors: list[Tensor], *options: Any) -> Any:
        """ProcessGroup.allreduce, counted and done when it returns: what a hook of torch's sends next, it sends at
        once and from this thread, in the same order everywhere."""
        size = sum(t.nbytes for t in tensors)
        work = self._counted(size, 2 / self.size(), self.group.allreduce, tensors, *options)
        work.wait()
        return work

    def gather(self, payload: Tensor) -> Tensor:
        """Every worker's payload, uint8 [workers, bytes], by rank."""
        every = torch.empty(self.size() * len(payload), dtype=torch.uint8)
        self._counted(payload.nbytes, 1.0, dist.all_gather_single, every, payload, self.group)
        return every.view(self.size(), -1)

    def _counted(self, count: int, share: float, collective: Any, *given: Any) -> Any:
        self.payload_bytes += count
        self.ring_bytes += share * (self.size() - 1) * count
        called_at = time.thread_time()
        found = collective(*given)
        self.returned_at = time.thread_time()
        self.inside += self.returned_at - called_at
        return found


class Still(Wire):
    """A wire to nobody: what comes back is what was sent, from each of `workers`. To measure and to test a hook."""

    def __init__(self, workers: int) -> None:
        super().__init__(None)
        self.workers = workers

    def size(self) -> int:
        """Workers."""
        return self.workers

    def rank(self) -> int:
        """The first."""
        return 0

    def allreduce(self, tensors: list[Tensor], *options: Any) -> Any:
        """The sum of equal tensors."""
        self._counted(sum(t.nbytes for t in tensors), 2 / self.workers, lambda: [t.mul_(self.workers) for t in tensors])
        return SimpleNamespace(get_future=lambda: _done(tensors), wait=lambda: True)

    def gather(self, payload: Tensor) -> Tensor:
        """The payload from each."""
        found: Tensor = self._counted(payload.nbytes, 1.0, payload.expand, self.workers, -1)
        return found


@dataclass
class Exchange:
    """A method on its wire; what it remembers from step to step is `memory()`, a checkpoint's part.

    errors: what top-k, random-k and sign have not sent yet, by bucket (error feedback).
    """

    method: str
    wire: Wire
    strength: Strength
    seed: int
    step: int = 0
    errors: dict[int, Tensor] = field(default_factory=dict)
    torch_state: Any = None
    averager: PeriodicModelAverager | None = None

    @staticmethod
    def of(method: str, wire: Wire, strength: Strength, seed: int) -> "Exchange":
        """The named method, with nothing in its memory."""
        made = Exchange(method, wire, strength, seed)
        group: Any = wire
        if method.startswith("powersgd"):
            made.torch_state = powerSGD_hook.PowerSGDState(
                group,
                matrix_approximation_rank=int(method.removeprefix("powersgd")),
                start_powerSGD_iter=PLAIN_STEPS,
                min_compression_rate=1,  # compress wherever it saves anything
                orthogonalization_epsilon=1e-8,
            )
        elif method == "local":
            local: Any = post_localSGD_hook.PostLocalSGDState
            made.torch_state = local(group, None, 0, post_local_gradient_allreduce=False)
            made.averager = PeriodicModelAverager(strength.period, process_group=group)
            made.averager.step = 1  # the first average comes after `period` steps, not after one
        return made

    def hook(self) -> tuple[Any, Any]:
        """(state, hook) as register_comm_hook takes them."""
        if self.method == "none":
            return self.wire, default_hooks.allreduce_hook
        if self.method == "fp16":
            return self.wire, default_hooks.fp16_compress_hook
        if self.method.startswith("powersgd"):
            return self.torch_state, powerSGD_hook.powerSGD_hook
        if self.method == "local":
            return self.torch_state, post_localSGD_hook.post_localSGD_hook
        return self, compressed_hook

    def end_step(self, network: torch.nn.Module) -> None:
        """After the optimizer's step: local steps average the parameters when it is time."""
        self.step += 1
        if self.averager is not None:
            self.averager.average_parameters(network.parameters())

    def replicas_agree(self) -> bool:
        """Whether all workers must hold the same parameters now."""
        return self.method != "local" or self.step % self.strength.period == 0

    def memory(self) -> dict[str, Any]:
        """Tensors and numbers from which `remember` continues."""
        kept = {"step": self.step, "errors": self.errors}
        if self.method.startswith("powersgd"):
            names = ("iter", "error_dict", "p_memory_dict", "q_memory_dict")
            kept |= {name: getattr(self.torch_state, name) for name in names}
        return kept

    def remember(self, kept: dict[str, Any]) -> None:
        """Take up a memory."""
        self.step, self.errors = kept["step"], kept["errors"]
        for name in kept.keys() - {"step", "errors"}:
            setattr(self.torch_state, name, kept[name])
        if self.averager is not None:
            self.averager.step = self.step + 1


def compressed_hook(state: Exchange, bucket: GradBucket) -> Future[torch.Tensor]:
    """The mean gradient as top-k, random-k, sign or QSGD let it through; what they keep back joins the next step's.

    QSGD needs no memory: its rounding is right in the mean.
    """
    x, index, wire = bucket.buffer(), bucket.index(), state.wire
    if state.method != "qsgd" and index in state.errors:
        x.add_(state.errors[index])
    kept = None if state.method == "qsgd" else x.clone()
    mean, own = _random_k(state, x) if state.method == "randomk" else _gathered(state, x)
    if kept is not None:
        state.errors[index] = kept.sub_(own)
    return _done(x.copy_(mean.div_(wire.size())))


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def _random_k(state: Exchange, x: Tensor) -> tuple[Tensor, Tensor]:
    places = codecs.random_places(len(x), state.strength.share, _generator(state.seed, state.step, 0))
    own, total = torch.zeros_like(x), torch.zeros_like(x)
    values = x[places]
    own[places] = values
    state.wire.allreduce([values])
    total[places] = values
    return total, own


def _gathered(state: Exchange, x: Tensor) -> tuple[Tensor, Tensor]:
    rank, bits = state.wire.rank(), state.strength.bits
    if state.method == "topk":
        payload = codecs.top_k(x, state.strength.share)
    elif state.method == "sign":
        payload = codecs.sign(x)
    else:
        payload = codecs.qsgd(x, bits, _generator(state.seed, state.step, 1 + rank))
    every = state.wire.gather(payload)
    total = own = torch.zeros_like(x)
    for sender, sent in enumerate(every):  # in the order of ranks: sums are equal to the last bit everywhere
        if state.method == "topk":
            part = codecs.from_top_k(sent, len(x))
        else:
            part = codecs.from_sign(sent, len(x)) if state.method == "sign" else codecs.from_qsgd(sent, len(x), bits)
        total = total + part
        own = part if sender == rank else own
    return total, own


def _generator(seed: int, step: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed << 40) + (step << 12) + stream)
