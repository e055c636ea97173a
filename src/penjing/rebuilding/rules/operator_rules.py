"""The table: operator of a file -> the rule that makes its layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from penjing.rebuilding.rules import elementwise, pooling, shapes, weighted
from penjing.rebuilding.step import Apply, Step
from penjing.tflite.operators import Operator, operators

Rule: TypeAlias = Callable[[Step], Apply]


def _by_operator(names: dict[Rule, str]) -> dict[Operator, Rule]:
    return {
        operator: rule for rule, text in names.items() for operator in operators(text)
    }


RULES = _by_operator(
    {
        weighted.convolution: "CONV_2D",
        weighted.convolution_3d: "CONV_3D",
        weighted.depthwise_convolution: "DEPTHWISE_CONV_2D",
        weighted.transposed_convolution: "TRANSPOSE_CONV",
        weighted.dense: "FULLY_CONNECTED",
        pooling.window: "AVERAGE_POOL_2D MAX_POOL_2D",
        pooling.reduction: (
            "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL"
        ),
        pooling.index_of_extreme: "ARG_MAX ARG_MIN",
        pooling.running_sum: "CUMSUM",
        pooling.resizing: "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR",
        elementwise.arithmetic: (
            "ADD SUB MUL DIV MAXIMUM MINIMUM POW SQUARED_DIFFERENCE FLOOR_DIV "
            "FLOOR_MOD EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL "
            "LOGICAL_AND LOGICAL_OR"
        ),
        elementwise.unary: (
            "ABS CEIL COS EXP FLOOR LOG LOGICAL_NOT LOG_SOFTMAX NEG ROUND RSQRT SIGN "
            "SIN SQRT SQUARE ZEROS_LIKE"
        ),
        elementwise.activation: (
            "ELU HARD_SWISH LOGISTIC RELU RELU6 RELU_N1_TO_1 TANH"
        ),
        elementwise.leaky_relu: "LEAKY_RELU",
        elementwise.prelu: "PRELU",
        elementwise.gelu: "GELU",
        elementwise.softmax: "SOFTMAX",
        elementwise.unit_norm: "L2_NORMALIZATION",
        elementwise.unchanged: "QUANTIZE DEQUANTIZE",
        elementwise.cast: "CAST",
        elementwise.chosen: "SELECT SELECT_V2",
        elementwise.sum_of_all: "ADD_N",
        shapes.reshape: "RESHAPE SQUEEZE EXPAND_DIMS",
        shapes.transpose: "TRANSPOSE",
        shapes.concatenation: "CONCATENATION",
        shapes.pad: "PAD PADV2",
        shapes.mirror_pad: "MIRROR_PAD",
        shapes.strided_slice: "STRIDED_SLICE",
        shapes.plain_slice: "SLICE",
        shapes.split: "SPLIT SPLIT_V",
        shapes.pack: "PACK",
        shapes.unpack: "UNPACK",
        shapes.gather: "GATHER",
        shapes.tile: "TILE",
        shapes.reverse: "REVERSE_V2",
        shapes.depth_to_space: "DEPTH_TO_SPACE",
        shapes.space_to_depth: "SPACE_TO_DEPTH",
        shapes.matrix_product: "BATCH_MATMUL",
    }
)
