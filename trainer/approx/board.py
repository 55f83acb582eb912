"""What the board makes of a dense layer in two low-rank factors: cycles, flash and accuracy of real int8 networks.

The factors are two dense layers of an ordinary int8 graph, so every engine runs them and `converter verify` proves them
equal.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from converter import convert as conversion
from converter.arrays import Float64, Int8
from converter.files import write_atomic
from converter.graph import Graph, layer_name
from converter.onnx_qdq.reader import read_onnx
from converter.operators.fully_connected import FullyConnected
from converter.operators.softmax import Softmax
from converter.reference import run_batch, run_batch_all
from converter.run_folder import ModelArtifact
from converter.tensor import QuantParams, Tensor
from converter.tflite.writer import write_tflite
from converter.verify.run import run_checks
from trainer.board import BoardTools
from trainer.data.augment import LabelledClips, load_split
from trainer.errors import TrainerError
from trainer.run.steps import CACHE, Source

PROFILE_RUNS, VERIFIED_INPUTS = 5, 100


def low_rank(graph: Graph, rank: int, calibration: Int8) -> Graph:
    """The graph with its largest dense layer W as two, `rank` numbers between them.

    The columns of P [outputs, rank] are the strongest principal axes of the layer's outputs over the calibration inputs
    [n, ...]; the factors are P and P^T W, which loses the least output energy of all pairs of this rank. Before a
    softmax the mean over the outputs is taken away first: that changes no score and saves one rank. Scales: of the
    weights by their largest, of activations by the range that the calibration inputs reach.
    """
    at = _largest_dense(graph)
    layer = _dense(graph, at)
    outputs, inputs = layer.weights_oi.shape
    if layer.activation != "NONE" or not 1 <= rank <= min(outputs, inputs):
        raise TrainerError(
            f"approx board: {layer.name} of {outputs}x{inputs} has no activation and a rank of 1 to "
            f"{min(outputs, inputs)}, got {layer.activation} and rank {rank}; choose another"
        )
    x = graph.tensors[layer.input]
    a = (
        run_batch_all(graph, calibration)[layer.input].reshape(-1, inputs).astype(np.float64) - x.quant.zero_point
    ) * x.quant.scale
    weights = layer.weights_oi * np.array(layer.weight_quant.scales)[:, None]
    bias = layer.bias * x.quant.scale * np.array(layer.weight_quant.scales)
    if at + 1 < len(graph.layers) and isinstance(graph.layers[at + 1], Softmax):
        weights, bias = weights - weights.mean(axis=0), bias - bias.mean()
    y = a @ weights.T
    axes = np.linalg.eigh(np.cov(y.T))[1][:, ::-1][:, :rank]  # strongest first
    down, up = axes.T @ weights, axes
    reach = np.abs(a @ down.T).max(axis=0)  # each number between the layers uses its whole int8 range
    down, up = down / reach[:, None], up * reach
    rest = bias + y.mean(axis=0) - up @ (a @ down.T).mean(axis=0)
    z = a @ down.T
    middle = Tensor(f"{layer.name}_low", (1, rank), _activation(z))
    output = replace(graph.tensors[layer.output], quant=_activation(z @ up.T + rest))
    index = len(graph.tensors)
    first = _quantized(layer, f"{layer.name}_down", layer.input, index, down, np.zeros(rank), x.quant.scale)
    second = _quantized(layer, f"{layer.name}_up", index, layer.output, up, rest, middle.quant.scale)
    tensors = [*graph.tensors, middle]
    tensors[layer.output] = output
    return replace(graph, tensors=tuple(tensors), layers=(*graph.layers[:at], first, second, *graph.layers[at + 1 :]))


def _largest_dense(graph: Graph) -> int:
    dense = [i for i, layer in enumerate(graph.layers) if isinstance(layer, FullyConnected)]
    if not dense:
        raise TrainerError("approx board: the network has a dense layer to factor, got none; choose another network")
    return max(dense, key=lambda i: _dense(graph, i).weights_oi.size)


def _dense(graph: Graph, i: int) -> FullyConnected:
    layer = graph.layers[i]
    assert isinstance(layer, FullyConnected)
    return layer


def _quantized(
    like: FullyConnected, name: str, source: int, target: int, weights: Float64, bias: Float64, in_scale: float
) -> FullyConnected:
    scale = float(np.float32(np.abs(weights).max() / 127))
    return replace(
        like,
        name=name,
        input=source,
        output=target,
        weights_oi=np.round(weights / scale).astype(np.int8),
        weight_quant=QuantParams((scale,), (0,)),
        bias=np.round(bias / (in_scale * scale)).astype(np.int32),
    )


def _activation(values: Float64) -> QuantParams:
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = float(np.float32((high - low) / 255))
    return QuantParams((scale,), (int(np.clip(np.round(-128 - low / scale), -128, 127)),))


def study(run: Path, out: Path, progress: Progress, tools: BoardTools) -> list[dict[str, Any]]:
    """One record for the network of a run folder as it is (rank 0) and one per rank of its largest dense layer."""
    artifact = ModelArtifact.load(run)
    if not artifact.onnx.is_file():
        raise TrainerError(f"{run}: holds no model.onnx; run `python -m trainer export {run}` first")
    graph = read_onnx(artifact.onnx.read_bytes())
    source = Source.load(run)
    selection = source.selection(artifact.spec, progress)
    calibration, test = (load_split(selection, name, CACHE, progress) for name in ("validation", "test"))
    outputs = _dense(graph, _largest_dense(graph)).weights_oi.shape[0]
    task = progress.add_task("on the virtual board", total=outputs)
    records = []
    for rank in range(outputs):  # at full rank there are only more multiplications
        changed = low_rank(graph, rank, calibration.features[..., None]) if rank else graph
        records.append(
            {"rank": rank, "smoke_test": source.synthetic, **_measured(changed, test, out / f"board_rank{rank}", tools)}
        )
        progress.advance(task)
    return records


def _measured(graph: Graph, test: LabelledClips, folder: Path, tools: BoardTools) -> dict[str, Any]:
    """Accuracy of the integer reference, the equivalence checks, and cycles on the virtual board."""
    model = folder / "model.tflite"
    write_atomic(model, write_tflite(graph))
    conversion.write_all(conversion.render(conversion.load(model)), folder / "firmware")
    elf = tools.build(folder / "firmware", folder / "build")
    checks = run_checks(model, VERIFIED_INPUTS, elf, None, tools.checks)
    if checks.differs:
        raise TrainerError(f"{folder}: two engines differ; run `python -m converter verify {model}` for the layer")
    measured = tools.profile(elf, PROFILE_RUNS)
    cycles = {stage["name"]: round(stage["mean_cycles"]) for stage in measured["stages"]}
    dense = [layer for layer in graph.layers if isinstance(layer, FullyConnected)]
    dense_names = {layer_name(graph.tensors[d.output].name) for d in dense}
    scores = run_batch(graph, np.ascontiguousarray(test.features)[..., None]).reshape(len(test.labels), -1)
    return {
        "accuracy": float((scores.argmax(axis=1) == test.labels).mean()),
        "test_n": len(test.labels),
        "dense_multiplications": sum(d.weights_oi.size for d in dense),
        "dense_cycles": sum(row["cycles"] for row in measured["layers"] if row["name"] in dense_names),
        "window_cycles": cycles["inference"],
        "hop_cycles": cycles.get("inference (stream)"),
        "image_flash": measured["memory"]["flash"],
        "differences": sum(check.differences for check in checks.checks),
    }
