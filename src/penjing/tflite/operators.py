"""The operators of a `.tflite` file, by name.

Reference:
    https://github.com/google-ai-edge/LiteRT, `tflite/schema/schema.fbs`
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from typing import NamedTuple

from penjing.tflite.records import Record

# The schema's `BuiltinOperator`.
Operator = enum.IntEnum(
    "Operator",
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE
    DEQUANTIZE EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION
    L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL
    RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
    CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE
    MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE
    BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2
    GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE
    TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT
    REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
    REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
    RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE
    CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG
    QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4
    NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
    PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
    REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
    CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
    RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU
    DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX
    UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT
    STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY
    STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE
    STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM
    STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
    STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER
    STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE
    STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER
    STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW
    STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
    """,
    start=0,
)


class Places(NamedTuple):
    """Where an operator with weights has what among its inputs."""

    x: int
    weights: int
    bias: int


WEIGHTED: dict[int, Places] = {
    Operator.CONV_2D: Places(0, 1, 2),
    Operator.DEPTHWISE_CONV_2D: Places(0, 1, 2),
    Operator.FULLY_CONNECTED: Places(0, 1, 2),
    Operator.TRANSPOSE_CONV: Places(2, 1, 3),
}


# They give the values that they read, in another type or on another grid.
SAME_VALUES = (Operator.QUANTIZE, Operator.DEQUANTIZE)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """An operator of a graph, in numbers of Python.

    `code` is the schema's number, an `Operator` unless it is newer. Tensors are known
    by their numbers; an input is -1 where none is read.
    """

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Record | None

    @property
    def output(self) -> int:
        """Number of the first tensor that it gives."""
        return self.outputs[0]

    def input(self, place: int) -> int:
        """Number of the tensor that it reads at a place; -1 for none."""
        return self.inputs[place] if place < len(self.inputs) else -1

    def option(self, name: str) -> float:
        """One of the options; 0 where they are of a kind that lacks it."""
        try:
            return self.options[name] if self.options else 0
        except KeyError:
            return 0


def calls(model: Record, graph: Record) -> Iterator[Call]:
    """The operators of a graph in the order in which they run."""
    for operator in graph["operators"]:
        yield Call(
            code=operator_code(model, operator),
            inputs=tuple(map(int, operator["inputs"])),
            outputs=tuple(map(int, operator["outputs"])),
            options=operator["builtin_options"],
        )


def operators(names: str) -> tuple[Operator, ...]:
    """Several operators, their names with spaces between them."""
    return tuple(Operator[name] for name in names.split())


def operator_code(model: Record, operator: Record) -> int:
    """The schema's number of an operator, an `Operator` unless it is newer."""
    return number_of(model["operator_codes"][operator["opcode_index"]])


def operator_name(model: Record, operator: Record) -> str:
    """The schema's name of an operator; "operator 999" where it is newer than the list.

    Example:
        >>> Operator(3).name
        'CONV_2D'
    """
    number = operator_code(model, operator)
    try:
        return Operator(number).name
    except ValueError:
        return f"operator {number}"


def make_operator_code(operator: Operator, version: int = 1) -> Record:
    """The table that says which operator runs, as readers of all ages find it."""
    return Record(
        "OperatorCode",
        deprecated_builtin_code=min(
            operator, Operator.PLACEHOLDER_FOR_GREATER_OP_CODES
        ),
        builtin_code=operator,
        version=version,
    )


def code_index(model: Record, operator: Operator, version: int = 1) -> int:
    """The place of an operator among a model's codes, where it is added if missing."""
    codes = model["operator_codes"]
    for index, code in enumerate(codes):
        if number_of(code) == operator and code["version"] == version:
            return index
    model["operator_codes"] = [*codes, make_operator_code(operator, version)]
    return len(codes)


def number_of(code: Record) -> int:
    """The schema's number in an operator code; old files keep it in another field."""
    return max(int(code["builtin_code"]), int(code["deprecated_builtin_code"]))
