"""Compile a schedule for this CPU, check its result, and take its time beside torch's and numpy's, in turns and on the
same threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import tvm
from tvm.target import Target, codegen

from converter.arrays import Float32
from converter.commands.timing import Call, fastest_in_turns
from trainer.errors import TrainerError
from trainer.tvm.primitives import Primitive, Sizes

ROUNDS, TURN_SECONDS = 7, 0.02
RTOL, ATOL_PER_TERM = 1e-4, 1e-7  # a sum of n float32 products, one after the other, in whatever order


def threads() -> int:
    """All of this machine, or what TVM_NUM_THREADS says. TVM by itself would take half, counting on two threads per
    core."""
    count = int(os.environ.setdefault("TVM_NUM_THREADS", str(os.cpu_count() or 1)))
    torch.set_num_threads(count)
    return count


def cpu_target() -> Target:
    """This very CPU."""
    here = {"mtriple": codegen.llvm_get_system_triple(), "mcpu": codegen.llvm_get_system_cpu()}
    return Target({"kind": "llvm", **here, "num-cores": threads()})


def compiled(module: tvm.IRModule, target: Target) -> Callable[..., None]:
    """The function of a scheduled module; its arguments are the two operands and the output."""
    function: Callable[..., None] = tvm.compile(module, target=target).mod["main"]
    return function


def checked(
    primitive: Primitive,
    sizes: Sizes,
    name: str,
    function: Callable[..., None],
    device: tvm.runtime.Device | None = None,
) -> Call:
    """The function as a call on the primitive's operands, on this CPU or the device; raises TrainerError where its
    result is not numpy's (in float64), or where it leaves one value of its output unwritten."""
    x, w = primitive.operands(sizes)
    want = reference(primitive, x, w)
    poisoned = np.full(want.shape, np.nan, np.float32)
    arguments = [tvm.runtime.tensor(values, device or tvm.cpu()) for values in (x, w, poisoned)]
    function(*arguments)
    require_close(f"{primitive.name} {name}", arguments[2].numpy(), want, terms(w))
    return lambda: function(*arguments)


def reference(primitive: Primitive, x: Float32, w: Float32) -> Any:
    """The product in float64 by numpy."""
    return primitive.by_numpy(x.astype(np.float64), w.astype(np.float64))


def terms(w: Float32) -> int:
    """Products per sum, from the weights' shape: (N), (K, N), (O, I, K, K) or (C, K, K)."""
    return len(w) if w.ndim < 3 else w[0].size


def require_close(name: str, got: Float32, want: Any, count: int) -> None:
    """TrainerError where a result is further from numpy's than sums of `count` products may be."""
    if not np.allclose(got, want, rtol=RTOL, atol=ATOL_PER_TERM * (count + 10)):
        unwritten = f" and {missing} values unwritten" if (missing := int(np.isnan(got).sum())) else ""
        largest = np.abs(got - want)[~np.isnan(got)].max(initial=0.0)
        raise TrainerError(
            f"tvm {name}: the result must be numpy's, got a difference of {largest:.3g}{unwritten}; report this "
            f"schedule"
        )


def others(primitive: Primitive, sizes: Sizes) -> dict[str, Call]:
    """The same by torch and by numpy."""
    x, w = primitive.operands(sizes)
    there = torch.from_numpy(x), torch.from_numpy(w)
    require_close(f"{primitive.name} torch", primitive.by_torch(*there).numpy(), reference(primitive, x, w), terms(w))
    return {"torch": lambda: primitive.by_torch(*there), "numpy": lambda: primitive.by_numpy(x, w)}


def fastest_seconds(calls: Mapping[str, Call]) -> dict[str, float]:
    """The shortest time of each call: seven rounds of turns of some 20 ms."""
    return dict(zip(calls, fastest_in_turns(list(calls.values()), ROUNDS, TURN_SECONDS), strict=True))
