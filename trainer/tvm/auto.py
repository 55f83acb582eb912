"""The searched schedules: MetaSchedule with a builder and a runner in this process, and a small log from which results
are replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import s_tir
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from converter.files import scratch_folder, write_atomic
from trainer.errors import TrainerError
from trainer.tvm.primitives import Primitive, Sizes

LOG = Path(__file__).parent / "tuned.json"
MAX_TRIALS = 128
RUNS, WARMUP = 3, 1


class Workshop:
    """Builds candidates and keeps them until they are measured: no process is started, so that small machines are not
    overrun."""

    def __init__(self) -> None:
        self.built: list[Any] = []

    def build(self, mod: tvm.IRModule, target: tvm.target.Target) -> str:
        """Compile a candidate; its key."""
        self.built.append(tvm.compile(mod, target=target))
        return str(len(self.built) - 1)

    def seconds(self, key: str, shapes: list[tuple[tuple[int, ...], str]]) -> list[float]:
        """Times of a candidate on random operands of (shape, type), after a warm-up; it is dropped then."""
        generator = np.random.default_rng(0)
        arguments = [tvm.runtime.tensor(generator.uniform(-1, 1, shape).astype(kind)) for shape, kind in shapes]
        built = self.built[int(key)]
        self.built[int(key)] = None
        timer = built.mod.time_evaluator("main", tvm.cpu(), number=1, repeat=WARMUP + RUNS, min_repeat_ms=5)
        return [float(second) for second in timer(*arguments).results[WARMUP:]]


def _parts(workshop: Workshop) -> tuple[Any, Any]:
    """MetaSchedule's builder and runner, in this process."""

    @derived_object
    class Builder(ms.builder.PyBuilder):  # type: ignore[misc]
        def build(self, inputs: list[Any]) -> list[Any]:
            found = []
            for one in inputs:
                try:
                    found.append(ms.builder.BuilderResult(workshop.build(one.mod, one.target), None))
                except (RuntimeError, ValueError, TypeError) as error:
                    found.append(ms.builder.BuilderResult(None, str(error)))
            return found

    @derived_object
    class Done(ms.runner.PyRunnerFuture):  # type: ignore[misc]
        def __init__(self, result: Any) -> None:
            self._result = result

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            return self._result

    @derived_object
    class Runner(ms.runner.PyRunner):  # type: ignore[misc]
        def run(self, inputs: list[Any]) -> list[Any]:
            found = []
            for one in inputs:
                shapes = [(tuple(int(n) for n in info.shape), str(info.dtype)) for info in one.args_info]
                try:
                    result = ms.runner.RunnerResult(workshop.seconds(one.artifact_path, shapes), None)
                except (RuntimeError, ValueError, TypeError) as error:
                    result = ms.runner.RunnerResult(None, str(error))
                found.append(Done(result))
            return found

    return Builder(), Runner()


def tune(primitive: Primitive, sizes: Sizes, target: tvm.target.Target, trials: int, seed: int = 0) -> dict[str, Any]:
    """The best record of `trials` measured candidates: {target, trials, microseconds, trace}."""
    if not 1 <= trials <= MAX_TRIALS:
        raise TrainerError(f"tvm: --trials is 1 to {MAX_TRIALS}, got {trials}; measure fewer candidates")
    builder, runner = _parts(Workshop())
    with scratch_folder() as folder:
        database = ms.tune_tir(
            tvm.IRModule({"main": primitive.prim_func(sizes)}),
            target=target,
            work_dir=folder,
            max_trials_global=trials,
            num_trials_per_iter=min(32, trials),
            builder=builder,
            runner=runner,
            database=ms.database.MemoryDatabase(),
            measure_callbacks=[ms.measure_callback.AddToDatabase(), ms.measure_callback.UpdateCostModel()],
            cost_model="xgb",
            seed=seed,
            num_tuning_cores=int(target.attrs["num-cores"]),
        )
        records = list(database.get_all_tuning_records())
    good = [record for record in records if record.run_secs and float(min(record.run_secs)) < 1e9]
    if not good:
        raise TrainerError(
            f"tvm {primitive.name}: none of {trials} candidates could be built and run; try more --trials"
        )
    best = min(good, key=lambda record: sum(map(float, record.run_secs)) / len(record.run_secs))
    seconds = sum(map(float, best.run_secs)) / len(best.run_secs)
    trace = json.loads(json.dumps(_plain(best.trace.as_json())))
    mcpu = str(target.attrs.get("mcpu", target.kind.name))
    return {"target": mcpu, "trials": len(records), "microseconds": round(seconds * 1e6, 2), "trace": trace}


def _plain(value: Any) -> Any:
    """TVM's containers as Python's own."""
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "__iter__"):
        return [_plain(v) for v in value]
    return getattr(value, "value", str(value))


def key_of(primitive: Primitive, sizes: Sizes) -> str:
    """The log's name for a primitive of these sizes."""
    return f"{primitive.name} {'x'.join(map(str, sizes))}"


def read_log() -> dict[str, Any]:
    """Key to record; empty without a log."""
    found: dict[str, Any] = json.loads(LOG.read_text()) if LOG.is_file() else {}
    return found


def write_log(key: str, record: dict[str, Any]) -> None:
    """Add a record, one line each, in order."""
    log = {**read_log(), key: record}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(log[name], separators=(',', ':'))}" for name in sorted(log))
    write_atomic(LOG, f"{{\n{lines}\n}}\n".encode())


def replay(primitive: Primitive, sizes: Sizes, record: dict[str, Any]) -> tvm.IRModule:
    """The searched schedule of a record; it holds for any CPU, and is fast on the one it was found on."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": primitive.prim_func(sizes)}))
    s_tir.schedule.Trace.apply_json_to_schedule(record["trace"], schedule)
    return schedule.mod
