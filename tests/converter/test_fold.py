"""SHAPE, STRIDED_SLICE and PACK before a RESHAPE: their integers are those that TensorFlow Lite Micro computes."""

from __future__ import annotations

import numpy as np
import pytest
from operator_checks import check_file
from tflite_files import TfliteFile

from converter.errors import ConvertError
from converter.formats.tflite import Table
from converter.tflite import reader, schema
from converter.tflite.file import TfliteFile as TfliteTensors
from converter.tflite.reader import read_tflite

MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink")


def slice_operator(file: TfliteFile, x: int, y: int, taken: tuple[int, int, int], masks: dict[str, int]) -> int:
    operands = [x, *(file.constant(np.array([value], np.int32)) for value in taken)]
    slots = [("Int32", MASKS.index(name), value) for name, value in masks.items()]
    return file.operator("STRIDED_SLICE", operands, [y], 32, *slots)[0]


def flattened() -> bytes:
    """A pool whose map is flattened to the shape [its batch, 8], as Keras writes it."""
    file = TfliteFile()
    x, pooled, flat = file.tensor((1, 4, 4, 2)), file.tensor((1, 2, 2, 2)), file.tensor((1, 8))
    file.operator("MAX_POOL_2D", [x], [pooled], 5, *(("Int32", slot, 2) for slot in (1, 2, 3, 4)))
    shape, batch, both = (file.tensor(size, None, "int32") for size in ((4,), (), (2,)))
    file.operator("SHAPE", [pooled], [shape], 55)
    slice_operator(file, shape, batch, (0, 1, 1), {"shrink": 1})
    file.operator("PACK", [batch, file.constant(np.array(8, np.int32))], [both], 59, ("Int32", 0, 2))
    file.operator("RESHAPE", [pooled, both], [flat])
    return file.file([x], [flat])


def test_a_shape_computed_by_operators_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = check_file(flattened(), monkeypatch)
    assert [type(layer).__name__ for layer in graph.layers] == ["MaxPool2D", "Reshape"]


@pytest.mark.parametrize("index", range(40))
def test_slices_are_those_of_tensorflow_lite_micro(index: int) -> None:
    runtime = pytest.importorskip("tflite_micro").runtime
    rng = np.random.default_rng(index)
    while True:
        taken = int(rng.integers(-6, 7)), int(rng.integers(-6, 7)), int(rng.choice([-3, -2, -1, 1, 2]))
        masks = {"begin": int(rng.integers(2)), "end": int(rng.integers(2)), "shrink": int(rng.integers(2))}
        if masks["shrink"]:
            masks["begin"], taken = 0, (*taken[:2], abs(taken[2]))
        file = TfliteFile()
        x, z, shape = file.tensor((1, 2, 3, 4)), file.tensor((1, 2, 3, 4)), file.tensor((4,), None, "int32")
        whole = range(4)[slice(None if masks["begin"] else taken[0], None if masks["end"] else taken[1], taken[2])]
        if not -4 <= taken[0] < 4 if masks["shrink"] else not whole:
            continue
        y = file.tensor(() if masks["shrink"] else (len(whole),), None, "int32")
        file.operator("SHAPE", [x], [shape], 55)
        slice_operator(file, shape, y, taken, masks)
        file.operator("RESHAPE", [x], [z])
        break
    data = file.file([x], [z])
    model = Table.root(data)
    ours = reader._Reader(TfliteTensors(model, model.tables(schema.Model.SUBGRAPHS)[0]))
    ours.graph()
    engine = runtime.Interpreter.from_bytes(
        data, arena_size=100_000, intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors
    )
    engine.set_input(np.zeros((1, 2, 3, 4), np.int8), 0)
    engine.invoke()
    for number, values in ours.file.folded.items():
        assert np.array_equal(engine.GetTensor(number, 0)["tensor_data"].reshape(values.shape), values), (taken, masks)


@pytest.mark.parametrize(
    ("taken", "masks", "rule"),
    [
        ((0, 1, 0), {}, "t3: the stride of axis 0 is 0"),
        ((2, 2, 1), {}, r"t3: takes nothing of axis 0 of \(4,\)"),
        ((4, 5, 1), {"shrink": 1}, "t3: begins at 4 of axis 0, which has 4"),
        ((0, 1, 1), {"ellipsis": 1}, "without ellipsis"),
        ((0, 1, -1), {"shrink": 1}, "left out with stride -1"),
    ],
)
def test_slices_that_are_none_are_refused(taken: tuple[int, int, int], masks: dict[str, int], rule: str) -> None:
    file = TfliteFile()
    x, y, shape = file.tensor((1, 2, 3, 4)), file.tensor((1, 24)), file.tensor((4,), None, "int32")
    file.operator("SHAPE", [x], [shape], 55)
    slice_operator(file, shape, file.tensor((1,), None, "int32"), taken, masks)
    with pytest.raises(ConvertError, match=rule):
        read_tflite(file.file([x], file.operator("RESHAPE", [x], [y])))
