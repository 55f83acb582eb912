"""The operators, one file each. Each answers all that converter.graph.Operator asks, which mypy checks here."""

from __future__ import annotations

from converter.graph import Operator
from converter.operators.add import Add
from converter.operators.average_pool2d import AveragePool2D
from converter.operators.concatenation import Concatenation
from converter.operators.conv2d import Conv2D
from converter.operators.depthwise_conv2d import DepthwiseConv2D
from converter.operators.fully_connected import FullyConnected
from converter.operators.hard_swish import HardSwish
from converter.operators.logistic import Logistic
from converter.operators.max_pool2d import MaxPool2D
from converter.operators.mean import Mean
from converter.operators.mul import Mul
from converter.operators.pad import Pad
from converter.operators.quantize import Quantize
from converter.operators.relu import Relu
from converter.operators.relu6 import Relu6
from converter.operators.reshape import Reshape
from converter.operators.softmax import Softmax
from converter.operators.strided_slice import StridedSlice
from converter.operators.tanh import Tanh
from converter.operators.transpose import Transpose

OPERATORS: tuple[type[Operator], ...] = (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    HardSwish,
    MaxPool2D,
    Mean,
    Mul,
    Pad,
    Quantize,
    Logistic,
    Relu,
    Relu6,
    StridedSlice,
    Tanh,
    Transpose,
    Reshape,
    Softmax,
)
