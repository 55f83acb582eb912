"""Time on the GPU's own clock, without the time that the CPU takes to launch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from converter.commands.timing import Call
from trainer.errors import TrainerError
from trainer.tvm.measure import ROUNDS

LAUNCHES = 50  # of a call, between two events; a call is up to three kernels, and the queue holds about 1,000
FILL_BYTES, LEAST_FILLS, MOST_FILLS = 1 << 28, 16, 512


class Timer:
    """Events of CUDA's run-time library on the stream that both TVM and torch use when told nothing.

    Between the events lie many launches, and in front of them writes to memory that keep the GPU busy until all of them
    are queued: a kernel shorter than its launch would otherwise be timed at the rate the CPU launches with. Whether
    they were queued in time is asked of the first event, and if not the writes are doubled.
    """

    def __init__(self, runtime: Any = None) -> None:
        self._cuda = runtime or import_module("cuda.bindings.runtime")

    def __enter__(self) -> Timer:
        self._start, self._end = self._ask("cudaEventCreate"), self._ask("cudaEventCreate")
        self._filled, self._fills = self._ask("cudaMalloc", FILL_BYTES), LEAST_FILLS
        return self

    def __exit__(self, *_: object) -> None:
        for name, held in (
            ("cudaEventDestroy", self._start),
            ("cudaEventDestroy", self._end),
            ("cudaFree", self._filled),
        ):
            self._ask(name, held)

    def fastest_seconds(self, call: Call) -> float:
        """Of one call: the least mean of 50 launches in a row, of seven such rows after one to warm up."""
        self._seconds(call)
        return min(self._seconds(call) for _ in range(ROUNDS))

    def _seconds(self, call: Call) -> float:
        while self._fills <= MOST_FILLS:
            for _ in range(self._fills):
                self._ask("cudaMemsetAsync", self._filled, 0, FILL_BYTES, 0)
            self._ask("cudaEventRecord", self._start, 0)
            for _ in range(LAUNCHES):
                call()
            self._ask("cudaEventRecord", self._end, 0)
            (begun,) = self._cuda.cudaEventQuery(self._start)
            self._ask("cudaEventSynchronize", self._end)
            if begun == self._cuda.cudaError_t.cudaErrorNotReady:
                return float(self._ask("cudaEventElapsedTime", self._start, self._end)) / 1e3 / LAUNCHES
            self._fills *= 2
        raise TrainerError(
            f"tvm: {LAUNCHES} launches are queued before the GPU begins the first, got one begun behind {MOST_FILLS} "
            f"writes of {FILL_BYTES >> 20} MB; time this on a machine with a faster CPU"
        )

    def _ask(self, name: str, *arguments: Any) -> Any:
        error, *found = getattr(self._cuda, name)(*arguments)
        if error != self._cuda.cudaError_t.cudaSuccess:
            raise TrainerError(f"tvm: CUDA must answer {name}, got {error!r}; see that `nvidia-smi` works")
        return found[0] if found else None
