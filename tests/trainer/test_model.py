"""The networks, their fake quantization, and the exported ONNX against onnxruntime and the integer reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from converter import reference
from converter.arrays import Int8
from converter.onnx_qdq.reader import read_onnx
from converter.operators.conv2d import Conv2D
from converter.operators.windows import same_pads
from converter.spec import KwsSpec
from trainer.errors import TrainerError
from trainer.network.fake_quant import QuantNetwork
from trainer.network.model import Architecture, Conv, Dense, Network, build, fold_norms
from trainer.network.onnx_export import to_onnx, vectors
from trainer.network.quant_options import QuantOptions
from trainer.run.fit import to_batch

torch.set_num_threads(1)
SPEC = KwsSpec.of_words(["yes", "stop"])
FEATURES = SPEC.features


def network(model: str, width: int | None = None, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    architecture = Architecture.of(model, 4, FEATURES)
    return build(replace(architecture, width=width) if width else architecture)


def some_features(count: int, seed: int = 0) -> Int8:
    return np.random.default_rng(seed).integers(-128, 128, (count, 49, 40)).astype(np.int8)


def quantized(model: str, bits: int = 8, seed: int = 0) -> QuantNetwork:
    """A network with outputs spread over some range, its batch norms settled and folded, its ranges observed."""
    net = network(model, seed=seed)
    with torch.no_grad():
        for block in net.blocks.values():
            if isinstance(block, (Conv, Dense)):
                block.weight.mul_(3.0)
                block.bias.uniform_(-0.5, 0.5)
    x = to_batch(some_features(96, seed), FEATURES)
    net.train()
    for _ in range(10):
        net(x)
    quant = QuantNetwork(fold_norms(net.eval()), FEATURES, QuantOptions(bits))
    quant.train()
    with torch.no_grad():
        for _ in range(5):
            quant(x)
    return quant.eval()


@pytest.mark.parametrize("channels", [8, 7, 6, 4, 2, 1])
def test_tinyconv_size(channels: int) -> None:
    """2081 c + 4 parameters for c channels: 16,652 with 8."""
    net = network("tinyconv", channels)
    assert net.parameter_count == 2081 * channels + 4 == sum(p.numel() for p in net.parameters())
    conv = net.blocks["conv"](to_batch(some_features(2), FEATURES))
    assert conv.shape == (2, channels, 25, 20)
    assert net(to_batch(some_features(2), FEATURES)).shape == (2, 4)


def test_padding_is_tensorflows() -> None:
    assert same_pads((49, 40), (10, 8), (2, 2)) == (4, 5, 3, 3)
    conv = network("tinyconv").blocks["conv"]
    assert isinstance(conv, Conv)
    x = to_batch(some_features(1), FEATURES)
    padded = torch.nn.functional.pad(x, (3, 3, 4, 5))
    expected = torch.relu(torch.nn.functional.conv2d(padded, conv.weight, conv.bias, 2))
    assert torch.equal(conv(x), expected)


def test_folding_keeps_the_function() -> None:
    net = network("dscnn")
    x = to_batch(some_features(32), FEATURES)
    net.train()
    for _ in range(5):
        net(x)
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(fold_norms(net)(x), net(x), rtol=1e-4, atol=1e-4)
    assert net.parameter_count < 12000


def test_unknown_model_and_width_of_bits() -> None:
    with pytest.raises(TrainerError, match="tinyconv, tinyconv_stream, dscnn, tcn, got resnet"):
        Architecture.of("resnet", 4, FEATURES)
    for bits in (1, 9):
        with pytest.raises(TrainerError, match=r"must be in 2\.\.8"):
            QuantNetwork(network("tinyconv"), FEATURES, QuantOptions(bits))
    with pytest.raises(TrainerError, match="folded"):
        QuantNetwork(network("dscnn"), FEATURES, QuantOptions())


def test_streaming_tinyconv_has_no_padding() -> None:
    net = network("tinyconv_stream")
    x = to_batch(some_features(2), FEATURES)
    conv = net.blocks["conv"]
    assert isinstance(conv, Conv) and conv.pads_tblr == (0, 0, 0, 0)
    assert conv(x).shape == (2, 8, 20, 17) and net(x).shape == (2, 4) and net.parameter_count == 11532


@pytest.mark.parametrize("model", ["tinyconv", "tinyconv_stream", "dscnn", "tcn"])
def test_export_equals_onnxruntime(model: str) -> None:
    """Fake-quantized logits from torch and from onnxruntime lie within one step, nearly all are equal."""
    quant = quantized(model)
    features = some_features(64, 3)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(to_onnx(quant, SPEC), options)
    x = to_batch(features, FEATURES)
    found = np.concatenate([session.run(None, {"features": row[None].numpy()})[0] for row in x])
    logits = quant.integer_layers(x)["logits"].numpy().astype(int)
    assert len(np.unique(logits)) > 8
    scale, zero_point = (float(value) for value in quant.output_quant("logits"))
    difference = np.abs(np.rint(found / scale + zero_point).astype(int) - logits)
    assert (difference == 0).mean() > 0.9 and difference.max() <= (1 if model.startswith("tinyconv") else 3), difference


@pytest.mark.parametrize("model", ["tinyconv", "tinyconv_stream", "dscnn", "tcn"])
def test_fake_quant_equals_the_integers(model: str) -> None:
    """Every layer of the fake-quantized network lies within one step of the integer reference, nearly all values are
    equal.

    Each integer layer is fed the fake-quantized output of the one before, so that one step does not grow through the
    layers.
    """
    quant = quantized(model)
    graph = read_onnx(to_onnx(quant, SPEC))
    data = vectors(quant, np.zeros((64, 16000), np.int16), some_features(64, 4), np.zeros(64, np.int64))
    known = {f"layer:{t.name}": i for i, t in enumerate(graph.tensors) if f"layer:{t.name}" in data}
    assert len(known) == len(quant.network.blocks)
    tensors = {graph.input: data["features"][..., None]}
    checked = 0
    for layer in graph.layers:
        shape = graph.tensors[layer.input].shape
        found = np.concatenate(
            [reference.run_layer_batch(graph, layer, [row.reshape(shape)]) for row in tensors[layer.input]]
        )
        name = f"layer:{graph.tensors[layer.output].name}"
        if name in data:
            expected = data[name].reshape(found.shape)
            difference = np.abs(found.astype(int) - expected)
            assert difference.max() <= 1 and (difference == 0).mean() > 0.98, name
            found, checked = expected, checked + 1
        tensors[layer.output] = found
    assert checked == len(known)


def test_scales_travel_unchanged() -> None:
    quant = quantized("tinyconv")
    graph = read_onnx(to_onnx(quant, SPEC))
    by_name = {t.name: t.quant for t in graph.tensors}
    assert (by_name["features_q"].scale, by_name["features_q"].zero_point) == (FEATURES.scale, FEATURES.zero_point)
    for name in ("conv", "logits"):
        scale, zero_point = quant.output_quant(name)
        assert (by_name[f"{name}_q"].scale, by_name[f"{name}_q"].zero_point) == (float(scale), int(zero_point))
    conv = graph.layers[0]
    assert isinstance(conv, Conv2D)
    constants = quant.constants("conv", torch.tensor(quant.input_scale))
    assert conv.weight_quant.scales == tuple(constants.weight_scale.tolist())
    assert np.array_equal(conv.weights_ohwi[..., 0], constants.weight[:, 0].numpy())
    assert conv.bias.tolist() == constants.bias.tolist()


def test_export_is_reproducible_and_names_no_machine() -> None:
    quant = quantized("tinyconv")
    data = to_onnx(quant, SPEC)
    assert data == to_onnx(quant, SPEC)
    model = onnx.load_model_from_string(data)
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts == {"kws_spec": SPEC.to_json(), "spec_id": SPEC.spec_id}
    assert b"/trainer/" not in data and b".py" not in data
    kinds = {n.op_type for n in model.graph.node}
    assert kinds >= {"QuantizeLinear", "DequantizeLinear", "Conv", "Relu", "Gemm"} and "Softmax" not in kinds
    assert len({n.name for n in model.graph.node}) == len(model.graph.node)


def test_gradients_pass_the_quantizer() -> None:
    """Every weight and bias gets a gradient, and a few steps lower the loss."""
    quant = quantized("tinyconv").train()
    x, y = to_batch(some_features(64), FEATURES), torch.arange(64) % 4
    optimizer = torch.optim.Adam(quant.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(quant(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in quant.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_by_bits(bits: int) -> None:
    quant = quantized("tinyconv", bits)
    weight = quant.constants("conv", torch.tensor(quant.input_scale)).weight
    assert int(weight.abs().max()) == (1 << (bits - 1)) - 1
    values = quant.integer_layers(to_batch(some_features(8), FEATURES))["conv"]
    assert len(torch.unique(values)) <= 1 << bits
    assert int(values.min()) >= 127 - ((1 << bits) - 1) and quant.output_quant("conv")[1] == 127 - ((1 << bits) - 1)


def test_zero_is_exact() -> None:
    quant = quantized("tinyconv")
    for name in ("conv", "logits"):
        scale, zero_point = quant.output_quant(name)
        assert float(zero_point) == int(zero_point) and float(scale) > 0
    empty = torch.zeros(1, 1, 49, 40)
    conv = quant.network.blocks["conv"]
    assert isinstance(conv, Conv)
    with torch.no_grad():
        conv.bias.zero_()
        assert not quant.layers(empty)["conv"].any()
