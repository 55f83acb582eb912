"""Rooflines: chips and their sources, networks counted on meta tensors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from converter.target import NRF52840
from host.emulator.cycles.timing import Timing
from host.measure import roofline as host_roofline
from trainer.errors import TrainerError
from trainer.roofline import (
    chips,
    models,
    nets,
)

ROOT = Path(__file__).resolve().parents[3]
CHECKS = {
    "alexnet": (61_100_840, 0.714),
    "vgg16": (138_357_544, 15.47),
    "resnet18": (11_689_512, 1.814),
    "resnet50": (25_557_032, 4.089),
    "mobilenet_v2": (3_504_872, 0.301),
    "mobilenet_v3_large": (5_483_032, 0.217),
    "efficientnet_b0": (5_288_548, 0.386),
    "densenet121": (7_978_856, 2.834),
    "squeezenet1_0": (1_248_424, 0.819),
    "inception_v3": (27_161_264, 5.713),
    "shufflenet_v2_x1_0": (2_278_604, 0.145),
}


@pytest.fixture(scope="module")
def networks() -> dict[str, models.Network]:
    return models.count_all()


# --- chips


def test_at_least_sixteen_chips_of_every_kind_and_each_number_has_a_source() -> None:
    found = chips.load()
    assert len(found) >= 16
    assert {chip.kind for chip in found} == set(chips.KINDS)
    for chip in found:
        for figure in (chip.bandwidth, *chip.peaks.values()):
            assert figure.value > 0 and len(figure.source) > 15 and figure.derivation, chip.name


def test_no_chip_is_off_by_a_thousand() -> None:
    """Processors of a kind lie within a few orders of magnitude, and a ridge between 0.1 and 3,000 operations a
    byte."""
    ranges = {"CPU": (2e10, 1e12), "GPU": (1e11, 1e13), "ASIC": (1e10, 1e13), "SoC": (5e9, 5e11), "MCU": (1e8, 2e10)}
    for chip in chips.load():
        low, high = ranges[chip.kind]
        assert low < chip.bandwidth.value < high, chip.name
        assert all(0.1 < chip.ridge(dtype) < 3000 for dtype in chip.peaks), chip.name


def test_peaks_are_the_makers_own_with_wide_sums() -> None:
    """Sums in fp32, no sparsity; per chip, from the makers' documents that chips.json names."""
    told = {
        ("TPU v3", "bf16"): (123e12, 900e9, "Google Cloud documentation"),
        ("TPU v4", "bf16"): (275e12, 1200e9, "Google Cloud documentation"),
        ("TPU v5e", "bf16"): (197e12, 819e9, "Google Cloud documentation"),
        ("TPU v5e", "int8"): (393e12, 819e9, "Google Cloud documentation"),
        ("TPU v6e", "bf16"): (918e12, 1638e9, "Google Cloud documentation"),
        ("RTX 3090", "fp16"): (71e12, 936e9, "NVIDIA Ampere GA102 GPU Architecture whitepaper"),
    }
    for (short, dtype), (peak, bandwidth, document) in told.items():
        chip = chips.of(short)
        assert (chip.peaks[dtype].value, chip.bandwidth.value) == (peak, bandwidth), short
        assert chip.peaks[dtype].source.startswith(document) and chip.bandwidth.source.startswith(document)
    gpu_clock_hz, tensor_cores = 1.695e9, 328  # GA102: 64 fused multiply-adds a tensor core and cycle with fp32 sums
    assert chips.of("RTX 3090").peaks["fp16"].value == pytest.approx(2 * 64 * tensor_cores * gpu_clock_hz, rel=0.01)


def test_the_board_is_the_one_the_host_draws() -> None:
    nano, clock_hz = chips.of("nRF52840"), NRF52840.clock_hz
    assert nano.peaks["fp32"].value == 64e6
    assert nano.peaks["int8"].value == host_roofline.COMPUTE[0].per_cycle * clock_hz == 256e6
    assert nano.bandwidth.value == host_roofline.SRAM.per_cycle * clock_hz == 256e6
    assert nano.second_peak is not None and nano.second_bandwidth is not None
    assert nano.second_peak[1].value == 2 * nano.peaks["int8"].value, "four products an instruction, not two"
    waits = Timing().flash_read
    assert f"| wait of a load from flash | {waits} |" in (ROOT / "docs" / "chip.md").read_text()
    assert nano.second_bandwidth[1].value == pytest.approx(nano.bandwidth.value / (1 + waits))
    for intensity in (0.1, 1.0, 30.0):
        assert nano.roof("int8", intensity) == pytest.approx(1e6 * host_roofline.roof_mops(intensity, clock_hz))


@pytest.mark.parametrize(
    ("change", "word"), [({"source": " "}, "source"), ({"value": 0}, "positive"), ({"derivation": ""}, "derivation")]
)
def test_a_figure_without_its_source_is_refused(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    entries = json.loads(chips.FILE.read_text())
    entries[3]["bandwidth"] |= change
    (tmp_path / "chips.json").write_text(json.dumps(entries))
    with pytest.raises(TrainerError, match=word):
        chips.load(tmp_path / "chips.json")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "toaster"},
        {"peaks": {"fp7": {"value": 1, "source": "x", "derivation": "y"}}},
        {"peaks": {}},
        {"short": "T4"},
    ],
)
def test_a_chip_that_cannot_be_drawn_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    entries = json.loads(chips.FILE.read_text())
    entries[0] |= change
    (tmp_path / "chips.json").write_text(json.dumps(entries))
    with pytest.raises(TrainerError):
        chips.load(tmp_path / "chips.json")


# --- networks


def test_the_networks_have_the_parameters_and_operations_of_the_literature(networks: dict[str, models.Network]) -> None:
    assert set(networks) == set(CHECKS)
    for name, (parameters, gmac) in CHECKS.items():
        assert networks[name].parameters == parameters, name
        assert networks[name].flops / 2e9 == pytest.approx(gmac, rel=0.01), name


def test_the_layers_have_all_the_operations_and_weights(networks: dict[str, models.Network]) -> None:
    for name, network in networks.items():
        assert sum(layer.flops for layer in network.layers) == network.flops, name
        assert all(layer.name and layer.kind in models.KINDS and layer.outputs for layer in network.layers), name
        skipped = 3_326_696 if name == "inception_v3" else 0  # the auxiliary head takes part in training only
        statistics = sum(
            b.numel()
            for key, b in nets.build(name, "meta").named_buffers()
            if "running" in key and "AuxLogits" not in key
        )
        assert network.weights == network.parameters - skipped + statistics, name


def test_a_convolution_by_hand() -> None:
    """4 outputs of 3x3x2 at 5x5 positions without a border, then ReLU in place, then a view and a product."""
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, device="meta"), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(100, 6, device="meta")
    )
    found = models.count(network, torch.empty(1, 2, 7, 7, device="meta"), "small")
    conv, relu, dense = found.layers
    assert (conv.kind, conv.flops, conv.weights, conv.inputs, conv.outputs) == (
        "convolution",
        2 * 4 * 18 * 25,
        4 * 18 + 4,
        98,
        100,
    )
    assert (relu.kind, relu.flops, relu.weights, relu.inputs, relu.outputs) == ("activation", 0, 0, 100, 100)
    assert (dense.kind, dense.flops, dense.weights, dense.inputs, dense.outputs) == ("dense", 1200, 606, 100, 6)
    assert conv.intensity() == 3600 / (4 * (76 + 98 + 100))
    assert conv.intensity(8, 1) == 8 * 3600 / (76 + 8 * 198)
    assert found.intensity() == 4800 / (4 * (76 + 606 + 98 + 100 + 200 + 106))
    assert found.footprint() == 4 * (682 + 200)
    assert found.parameters == 682


def test_depthwise_and_inputs_used_twice() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.each = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False, device="meta")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.avg_pool2d(self.each(x) + x, 2)

    each, add, pool = models.count(Net(), torch.empty(1, 4, 6, 6, device="meta"), "net").layers
    assert (each.kind, each.flops, each.weights) == ("depthwise", 2 * 9 * 4 * 36, 36)
    assert (add.kind, add.inputs, add.outputs, add.weights) == ("element-wise", 288, 144, 0)
    assert (pool.kind, pool.inputs, pool.outputs) == ("pooling", 144, 36)


def test_batches_read_weights_once(networks: dict[str, models.Network]) -> None:
    for network in networks.values():
        intensities = [network.intensity(batch) for batch in (1, 8, 64, 256)]
        assert intensities == sorted(intensities)
        assert intensities[-1] < network.flops / (4 * network.activations)


def test_importing_the_networks_leaves_torch_as_it_was() -> None:
    before = torch.library.register_fake
    network = nets.build("squeezenet1_0")
    assert torch.library.register_fake is before
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        assert network(nets.pictures("squeezenet1_0", 1)).shape == (1, 1000)
    assert counter.get_total_flops() / 2e9 == pytest.approx(0.819, rel=0.01)


def test_missing_torchvision_is_one_sentence() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None\nfrom trainer.roofline import nets\n"
        "try: nets.build('alexnet', 'meta')\nexcept Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("TrainerError") and "pip install torchvision" in done.stdout
