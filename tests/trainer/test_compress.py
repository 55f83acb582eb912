"""Low bits and pruning: counts of the new graph, held zeros, and bit-exact engines for every width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from converter import reference
from converter.aot.emit import render_aot
from converter.arrays import Int8
from converter.onnx_qdq.reader import read_onnx
from converter.operators.conv2d import Conv2D
from converter.operators.fully_connected import FullyConnected
from converter.spec import KwsSpec
from converter.tflite.legacy_rounding import agrees_with_legacy_rounding
from converter.verify import engines
from converter.verify.checks import EQUAL
from converter.verify.run import prepared
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import Architecture, Conv, Dense, Network, build, fold_norms
from trainer.network.onnx_export import to_onnx
from trainer.network.prune import hold_zeros, nonzero_count, prune
from trainer.network.quant_options import QuantOptions
from trainer.run.fit import to_batch

torch.set_num_threads(1)
SPEC = KwsSpec.of_words(["yes", "stop"])


def some_features(count: int, seed: int = 0) -> Int8:
    return np.random.default_rng(seed).integers(-128, 128, (count, 49, 40)).astype(np.int8)


def network(model: str, width: int | None = None) -> Network:
    torch.manual_seed(1)
    net = build(replace(Architecture.of(model, 4, SPEC.features), width=width or {"tinyconv": 8}.get(model, 12)))
    with torch.no_grad():
        for block in net.blocks.values():
            if isinstance(block, (Conv, Dense)):
                block.weight.mul_(3.0)
                block.bias.uniform_(-0.3, 0.5)
    net.train()
    for seed in range(4):
        net(to_batch(some_features(32, seed), SPEC.features))
    return net.eval()


def quantized(model: str, options: QuantOptions) -> QuantNetwork:
    quant = QuantNetwork(fold_norms(network(model)), SPEC.features, replace(options, fixed_steps=True)).eval()
    quant.calibrate_steps(to_batch(some_features(64, 9), SPEC.features))
    return quant


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("model", ["tinyconv", "dscnn"])
def test_low_bits_run_bit_exactly_in_the_8_bit_container(model: str, bits: int, tmp_path: Path) -> None:
    """The integers stay in the b-bit range on every layer, and TFLM, tflite-runtime and the generated C agree with the
    reference."""
    file = tmp_path / "model.onnx"
    file.write_bytes(to_onnx(quantized(model, QuantOptions(bits, calibration="mse")), SPEC))
    graph = read_onnx(file.read_bytes())
    top = (1 << (bits - 1)) - 1
    outputs = reference.run_batch_all(graph, some_features(16, 3)[..., None])
    hidden = [layer for layer in graph.layers if isinstance(layer, Conv2D)]
    assert hidden
    for layer in graph.layers:
        if isinstance(layer, Conv2D):
            assert np.abs(layer.weights_ohwi).max() <= top
            assert outputs[layer.output].min() >= 127 - ((1 << bits) - 1)
        elif isinstance(layer, FullyConnected):
            assert np.abs(layer.weights_oi).max() <= top
    assert len(np.unique(outputs[hidden[0].output])) > (1 << bits) // 2
    with prepared(file, 10) as given:
        given = replace(given, noise=given.noise[:4])
        checks = [engines.tflm(given)]
        checks += [engines.native(given, simd=True)] if model == "tinyconv" and bits in (2, 5) else []
        runtime = engines.tflite_runtime(given)
    assert all(check.status == EQUAL and check.checked >= 4 for check in checks), checks
    assert runtime.checked >= 4
    if agrees_with_legacy_rounding(
        graph
    ):  # else this one dense layer rounds otherwise in the older runtime, by its own rule
        assert runtime.status == EQUAL, runtime
    else:
        assert "older TensorFlow Lite" in runtime.detail or "legacy_rounding" in runtime.detail, runtime


@pytest.mark.parametrize("fixed_steps", [True, False])
def test_a_channel_pruned_to_nothing_keeps_the_fast_convolution(fixed_steps: bool) -> None:
    """Its bias alone is left; on a scale of nothing it would be so large that no kernel with bounded sums could take
    the layer."""
    net = fold_norms(network("tinyconv"))
    conv = net.blocks["conv"]
    assert isinstance(conv, Conv)
    with torch.no_grad():
        conv.weight[3] = 0.0
        conv.bias[3] = -0.7
    quant = QuantNetwork(net, SPEC.features, QuantOptions(8, fixed_steps=fixed_steps)).eval()
    if fixed_steps:
        quant.calibrate_steps(to_batch(some_features(64, 9), SPEC.features))
    else:
        quant.train()(to_batch(some_features(64, 9), SPEC.features))
    graph = read_onnx(to_onnx(quant.eval(), SPEC))
    layer = graph.layers[0]
    assert isinstance(layer, Conv2D) and not layer.weights_ohwi[3].any() and abs(int(layer.bias[3])) < 2**16
    assert "nn_conv_packed_s8" in render_aot(graph)["model_aot.c"]


@pytest.mark.parametrize(
    ("scheme", "bits", "zero"), [("asymmetric", 4, 112), ("symmetric", 4, 120), ("symmetric", 8, 0)]
)
def test_schemes_choose_the_zero_point(scheme: str, bits: int, zero: int) -> None:
    graph = read_onnx(to_onnx(quantized("tinyconv", QuantOptions(bits, "per-tensor", scheme)), SPEC))
    points = {t.name: t.quant.zero_point for t in graph.tensors}
    assert points["conv_q"] == zero and (points["logits_q"] == 0) == (scheme == "symmetric")
    conv = graph.layers[0]
    assert isinstance(conv, Conv2D) and len(set(conv.weight_quant.scales)) == 1


def test_asymmetric_weights_are_measured_not_exported() -> None:
    quant = quantized("tinyconv", QuantOptions(4, scheme="asymmetric-weights"))
    assert torch.isfinite(quant(to_batch(some_features(4), SPEC.features))).all()
    with pytest.raises(TrainerError, match="symmetric weights only"):
        to_onnx(quant, SPEC)


def test_calibration_by_error_beats_the_extremes() -> None:
    """At 2 and 3 bits the squared error of the weights is smaller with mse than with minmax."""
    weight = network("tinyconv").blocks["logits"].weight
    assert isinstance(weight, torch.Tensor)
    for bits in (2, 3):
        errors = []
        for calibration in ("minmax", "percentile", "mse"):
            quant = quantized("tinyconv", QuantOptions(bits, calibration=calibration))
            found = quant.constants("logits", torch.tensor(1.0))
            errors.append(float(((found.weight * found.weight_scale[:, None] - weight.detach()) ** 2).sum()))
        assert errors[2] < 0.8 * errors[0] and errors[2] <= errors[1]


def test_steps_are_learned_in_qat() -> None:
    """Every step size gets a gradient, and training at 2 bits lowers the loss."""
    quant = quantized("tinyconv", QuantOptions(2, calibration="mse")).train()
    x, y = to_batch(some_features(64), SPEC.features), torch.arange(64) % 4
    optimizer = torch.optim.Adam(quant.parameters(), 1e-3)
    losses: list[float] = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(quant(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert losses or all(
            p.grad is not None and p.grad.abs().sum() > 0 for n, p in quant.named_parameters() if "gain" in n
        )
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("channels", [7, 6, 4, 2, 1])
def test_pruned_tinyconv_is_a_smaller_graph(channels: int, norm: str) -> None:
    """2081 c + 4 parameters, in torch and in the ONNX file; what is left computes the same as the masked network."""
    net = network("tinyconv")
    pruned = prune(net, "structured", 1 - channels / 8, norm)
    assert pruned.parameter_count == 2081 * channels + 4
    conv, left = net.blocks["conv"], pruned.blocks["conv"]
    assert isinstance(conv, Conv) and isinstance(left, Conv)
    gone = [i for i in range(8) if not any(torch.equal(conv.weight[i], w) for w in left.weight)]
    assert len(gone) == 8 - channels
    with torch.no_grad():
        conv.weight[gone] = 0.0
        conv.bias[gone] = 0.0
    x = to_batch(some_features(8), SPEC.features)
    torch.testing.assert_close(pruned(x), net(x), rtol=1e-5, atol=1e-5)
    if norm == "l1":
        quant = QuantNetwork(pruned, SPEC.features, QuantOptions(fixed_steps=True)).eval()
        quant.calibrate_steps(x)
        model = onnx.load_model_from_string(to_onnx(quant, SPEC))
        sizes = {i.name: int(np.prod(i.dims)) for i in model.graph.initializer}
        assert sum(v for k, v in sizes.items() if k.endswith(("_weight", "_bias"))) == 2081 * channels + 4, sizes


def test_pruned_dscnn_equals_the_network_without_these_channels() -> None:
    """Channels that add nothing are the ones that go, with both layers that hold them and the next layer's inputs: same
    outputs."""
    net = network("dscnn")
    with torch.no_grad():
        for name, block in net.blocks.items():
            if isinstance(block, Conv) and block.norm is not None:
                block.norm.weight[[2, 5, 7]] = 0.0
                block.norm.bias[[2, 5, 7]] = 0.0
                assert block.norm.running_mean is not None, name
    pruned = prune(net, "structured", 0.25, "l2")
    x = to_batch(some_features(8), SPEC.features)
    assert pruned.architecture.width == 9 and pruned.parameter_count < 0.7 * net.parameter_count
    torch.testing.assert_close(pruned(x), net(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("model", ["tinyconv", "dscnn"])
def test_masks_survive_training_and_quantization(model: str, norm: str) -> None:
    net = prune(network(model), "unstructured", 0.75, norm)
    weights = [b.weight for b in net.blocks.values() if isinstance(b, (Conv, Dense))]
    total, left = sum(w.numel() for w in weights), sum(int((w != 0).sum()) for w in weights)
    assert left == total - int(0.75 * total + 0.5) and nonzero_count(net) < 0.35 * net.parameter_count
    quant = QuantNetwork(fold_norms(net), SPEC.features, QuantOptions(4, fixed_steps=True)).eval()
    x, y = to_batch(some_features(32), SPEC.features), torch.arange(32) % 4
    quant.calibrate_steps(x)
    zeros = {n: p.detach() == 0 for n, p in quant.network.named_parameters() if n.endswith("weight")}
    before = {n: p.detach().clone() for n, p in quant.network.named_parameters()}
    hold_zeros(quant.network)
    optimizer = torch.optim.AdamW(quant.parameters(), 1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(quant(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, parameter in quant.network.named_parameters():
        if name in zeros:
            assert bool((parameter[zeros[name]] == 0).all()) and not torch.equal(parameter, before[name]), name
    constants = quant.constants("logits", torch.tensor(1.0))
    assert bool((constants.weight[zeros["blocks.logits.linear.weight"]] == 0).all())


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_no_layer_is_pruned_away(norm: str) -> None:
    """At 99 % every layer keeps its largest weight, however small it is beside other layers' and however alike its
    weights are."""
    net = network("tinyconv")
    with torch.no_grad():
        conv = net.blocks["conv"]
        assert isinstance(conv, Conv)
        conv.weight.copy_(0.001 + 1e-6 * torch.rand(conv.weight.shape))
    pruned = prune(net, "unstructured", 0.99, norm)
    for name, block in pruned.blocks.items():
        before = net.blocks[name]
        assert isinstance(block, (Conv, Dense)) and isinstance(before, (Conv, Dense))
        assert torch.equal(block.weight.abs().max(), before.weight.abs().max()) and bool(block.weight.any()), name


def test_l2_ranks_as_lamp_does() -> None:
    """Against the published score: w^2 over the sum of the squares of the layer's weights that are at least as
    large."""
    net = network("tinyconv")
    layers = [b.weight.detach().double() for b in net.blocks.values() if isinstance(b, (Conv, Dense))]
    scores = torch.stack(
        [w**2 / (layer[layer.abs() >= w.abs()] ** 2).sum() for layer in layers for w in layer.flatten()[:200]]
    )
    pruned = prune(net, "unstructured", 0.6, "l2")
    kept = torch.cat([b.weight.flatten()[:200] != 0 for b in pruned.blocks.values() if isinstance(b, (Conv, Dense))])
    assert 20 < int(kept.sum()) < 380 and float(scores[kept].min()) > float(scores[~kept].max())


@pytest.mark.parametrize(
    ("kind", "amount", "norm", "said"),
    [
        ("filters", 0.5, "l1", "--kind"),
        ("structured", 0.5, "l3", "--norm"),
        ("structured", 1.0, "l1", "--amount"),
        ("structured", 0.01, "l1", "1 to 7 of 8"),
        ("unstructured", 0.0, "l1", "--amount"),
        ("structured", 0.99, "l1", "1 to 7 of 8"),
    ],
)
def test_bad_pruning_is_one_sentence(kind: str, amount: float, norm: str, said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        prune(network("tinyconv"), kind, amount, norm)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": "per-row"}, "--weights"),
        ({"scheme": "affine"}, "--scheme"),
        ({"calibration": "kl"}, "--calibration"),
        ({"bits": 1}, "--bits"),
    ],
)
def test_bad_options_are_one_sentence(given: dict[str, str], said: str) -> None:
    with pytest.raises(TrainerError, match=f"{said}: must be"):
        QuantOptions(**given)  # type: ignore[arg-type]
