"""Variables of a .tflite, state that a model keeps between inferences: no layer comes of their operators.

CALL_ONCE runs a subgraph that gives them their first values, VAR_HANDLE names one, READ_VARIABLE and ASSIGN_VARIABLE
copy. Streaming models keep the last rows in front of each convolution so (microWakeWord's do).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from converter.errors import ConvertError, require
from converter.formats.tflite import INT8, Table
from converter.graph import Variable
from converter.tflite import schema
from converter.tflite.file import TfliteFile

NUMBERS = {"CALL_ONCE": 129, "VAR_HANDLE": 142, "READ_VARIABLE": 143, "ASSIGN_VARIABLE": 144}
OPTIONS_TYPES = {"CALL_ONCE": 103, "VAR_HANDLE": 111, "READ_VARIABLE": 112, "ASSIGN_VARIABLE": 113}
OPERANDS = {"CALL_ONCE": (0, 0), "VAR_HANDLE": (0, 1), "READ_VARIABLE": (1, 1), "ASSIGN_VARIABLE": (2, 0)}
CONTAINER, SHARED_NAME = range(2)  # of VarHandleOptions
INIT_SUBGRAPH = 0  # of CallOnceOptions


def require_operands(where: str, operator: str, inputs: list[int], outputs: list[int]) -> None:
    """Raises ConvertError for other numbers of operands than the operator has."""
    wanted = OPERANDS[operator]
    if (len(inputs), len(outputs)) != wanted:
        raise ConvertError(
            f"{where}: {operator} has {wanted[0]} inputs and {wanted[1]} outputs, got {len(inputs)} and {len(outputs)}"
        )


@dataclass
class Variables:
    """What a reader has seen of them, by name; `read` and `written` are the graph's numbers of tensors."""

    handles: dict[int, str] = field(default_factory=dict)  # by the file's number of the tensor
    initial: dict[str, tuple[int, int]] = field(default_factory=dict)  # (value, how many)
    read: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)

    def handle(self, where: str, index: int, options: Table | None) -> None:
        """Tensor `index` of the file stands for a variable."""
        parts = (options.text(CONTAINER), options.text(SHARED_NAME)) if options else ()
        self.handles[index] = "/".join(part for part in parts if part)
        require(self.handles[index] != "", where, "VAR_HANDLE names no variable; export the model with names")

    def named(self, where: str, index: int) -> str:
        """The variable that a tensor of the file stands for."""
        if index not in self.handles:
            raise ConvertError(f"{where}: operand {index} is no VAR_HANDLE; the file is damaged, export it again")
        return self.handles[index]

    def begin(self, where: str, model: Table, subgraphs: list[Table], options: Table | None) -> None:
        """The first values, from the subgraph that CALL_ONCE names."""
        number = options.number(INIT_SUBGRAPH, "i", 0) if options else 0
        if not 0 < number < len(subgraphs):
            raise ConvertError(f"{where}: CALL_ONCE of subgraph {number}, the file has {len(subgraphs)}")
        file, inside = TfliteFile(model, subgraphs[number]), Variables()
        for table in subgraphs[number].tables(schema.SubGraph.OPERATORS):
            operator = file.operator(where, table)[1]
            inputs, outputs = table.numbers(schema.Operator.INPUTS, "i"), table.numbers(schema.Operator.OUTPUTS, "i")
            if operator not in ("VAR_HANDLE", "ASSIGN_VARIABLE"):
                raise ConvertError(f"{where}: CALL_ONCE computes {operator}; variables may begin with constants only")
            require_operands(where, operator, inputs, outputs)
            if operator == "VAR_HANDLE":
                inside.handle(where, outputs[0], table.table(schema.Operator.OPTIONS))
                continue
            name, values = inside.named(where, inputs[0]), file.constant(where, inputs[1], INT8, "<i1").astype(np.int8)
            if values.size == 0 or (values != values.flat[0]).any():
                raise ConvertError(f"{where}: {name} begins with values that differ; only one value for all is read")
            self.initial[name] = int(values.flat[0]), values.size

    def found(self, sizes: list[int]) -> tuple[Variable, ...]:
        """All that are read, in that order; sizes of the graph's tensors."""
        result = []
        for name, number in self.read.items():
            require(name in self.initial, name, "is read, and no CALL_ONCE gives it a first value")
            require(name in self.written, name, "is read, and no ASSIGN_VARIABLE changes it; make it a constant")
            value, count = self.initial[name]
            require(count == sizes[number], name, f"begins with {count} values and is read as {sizes[number]}")
            result.append(Variable(name, number, self.written[name], value))
        return tuple(result)
