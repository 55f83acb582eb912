"""The layers that the converter lowers to are the structs of nn.h, field by field."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from kernels_on_host import NN, struct_types

from converter.aot.kernels.structs import NnLayer, NnOutput
from converter.aot.lower import LOWERINGS
from converter.operators import OPERATORS

LAYERS = typing.get_args(NnLayer)


@pytest.mark.parametrize("layer", [*LAYERS, NnOutput], ids=lambda layer: layer.struct)
def test_fields_are_those_of_the_c_struct_in_its_order(layer: type[NnLayer]) -> None:
    fields = [name for name, _ in struct_types()[layer.struct]._fields_]
    assert [field.name for field in dataclasses.fields(layer)] == fields


def test_every_layer_struct_of_the_headers_has_its_dataclass() -> None:
    in_headers = {name for name in struct_types() if name.endswith("_layer")}
    assert in_headers == {layer.struct for layer in LAYERS}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.struct)
def test_the_header_declares_the_struct(layer: type[NnLayer]) -> None:
    assert f"}} {layer.struct};" in (NN / layer.header).read_text()


def test_every_operator_of_the_graph_has_its_lowering() -> None:
    operators = [operator for operator, _ in LOWERINGS]
    assert len(operators) == len(set(operators))
    assert set(operators) == set(OPERATORS)
