"""The operators that TensorFlow Lite Micro knows, and what adds them in C++.

They are those that the `tflite-micro` wheel's resolver adds, 100 of the schema and 18
custom ones, found by giving it a file of each: `tests/tflite/test_tflm_operators.py`
does so where the wheel is installed. "ethos-u" is known only on a device that has the
processor. The names in C++ are the methods `AddX` of `MicroMutableOpResolver`.

Reference:
    https://github.com/tensorflow/tflite-micro,
    `tensorflow/lite/micro/micro_mutable_op_resolver.h`
"""

from __future__ import annotations

from collections.abc import Mapping

from penjing.tflite.operators import Operator, number_of
from penjing.tflite.records import Record

_KNOWN = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL
    BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION
    CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV
    FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF
    L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT
    LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX
    REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2
    ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT
    SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH
    TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE
    ZEROS_LIKE
"""
# Those that are no words with capitals.
_SPELLED = {
    "AVERAGE_POOL_2D": "AveragePool2D",
    "BATCH_MATMUL": "BatchMatMul",
    "CONV_2D": "Conv2D",
    "CUMSUM": "CumSum",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "L2_POOL_2D": "L2Pool2D",
    "MAX_POOL_2D": "MaxPool2D",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}


def _method(name: str) -> str:
    words = _SPELLED.get(name) or "".join(w.capitalize() for w in name.split("_"))
    return f"Add{words}"


TFLM_OPERATORS: Mapping[Operator, str] = {
    Operator[name]: _method(name) for name in _KNOWN.split()
}
"""Operator of the schema -> the method that adds it."""

TFLM_CUSTOM_OPERATORS: Mapping[str, str] = {
    "CIRCULAR_BUFFER": "AddCircularBuffer",
    "SignalDelay": "AddDelay",
    "SignalEnergy": "AddEnergy",
    "SignalFftAutoScale": "AddFftAutoScale",
    "SignalFilterBank": "AddFilterBank",
    "SignalFilterBankLog": "AddFilterBankLog",
    "SignalFilterBankSpectralSubtraction": "AddFilterBankSpectralSubtraction",
    "SignalFilterBankSquareRoot": "AddFilterBankSquareRoot",
    "SignalFramer": "AddFramer",
    "SignalIrfft": "AddIrfft",
    "SignalOverlapAdd": "AddOverlapAdd",
    "SignalPCAN": "AddPCAN",
    "SignalRfft": "AddRfft",
    "SignalStacker": "AddStacker",
    "SignalWindow": "AddWindow",
    "TFLM_DECODE": "AddDecode",
    "TFLite_Detection_PostProcess": "AddDetectionPostprocess",
    "ethos-u": "AddEthosU",
}
"""Name of a custom operator -> the method that adds it."""


def tflm_method(code: Record) -> str | None:
    """The method that adds an operator code of a file; None where TFLM has none.

    Example:
        >>> from penjing.tflite.operators import make_operator_code
        >>> tflm_method(make_operator_code(Operator.CONV_2D))
        'AddConv2D'
    """
    number = number_of(code)
    if number == Operator.CUSTOM:
        return TFLM_CUSTOM_OPERATORS.get(code["custom_code"].decode("utf-8", "replace"))
    return TFLM_OPERATORS.get(Operator(number)) if number in _NUMBERS else None


_NUMBERS = frozenset(map(int, Operator))
