"""Short names for the arrays that annotations speak of; shapes stand in the docstrings of those who take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Uint16 = NDArray[np.uint16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Pcm = Int16  # mono samples at the front end's rate
WIRE_TYPES = (
    "float32",
    "int32",
    "uint8",
    "int64",
    "bool",
    "int16",
    "int8",
    "uint32",
)  # as numpy names them
Json = dict[str, Any]  # an object as json.loads gives it
