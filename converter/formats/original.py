"""A model file as it came, and where in it the tensors of its Graph are: for checks that start from the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

End = Literal["int8", "uint8", "float32"]
HOW = {"uint8": "128 less", "float32": "real = (int8 - zero point) * scale, both in kws_model.h"}


@dataclass(frozen=True)
class Place:
    """A tensor of the Graph and what the file calls it: the name of an ONNX value, the number of a .tflite's tensor.

    is_nchw: the file holds [1, C, H, W] or [1, C, W], the Graph [1, H, W, C]; else the elements lie in one order.
    chw: the file has a map of this shape in a row.
    """

    tensor: int
    key: str | int
    is_nchw: bool = False
    chw: tuple[int, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Original:
    """The bytes of a model file. The last place is the model's output, as the file gives it to its user.

    ends: of what type the input and the output of a .tflite are; the Graph's are int8. notes: what its reader said.
    """

    name: str
    format: Literal["onnx", "tflite"]
    data: bytes
    places: tuple[Place, ...]
    ends: tuple[End, End] = ("int8", "int8")
    notes: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """How int8 stands for ends of other types, and what else its user should know; "" for nothing."""
        said = [
            f"the {side} is {end} in the file, int8 here: {HOW[end]}"
            for side, end in zip(("input", "output"), self.ends, strict=True)
            if end in HOW
        ]
        return "; ".join([*said, *self.notes])
