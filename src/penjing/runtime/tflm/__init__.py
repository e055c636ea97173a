"""TensorFlow Lite Micro (TFLM), the interpreter of microcontrollers, on this machine.

Its own C++ code runs a file here as it runs on the device: the same kernels, written
for no processor in particular, and the same arena, the one block of memory that all its
tensors lie in. So a file is known to run, and what RAM it takes, before there is a
board. The wheel `tflite-micro` has that interpreter, for Linux on x86-64 alone; no
other room imports it. A file runs in a process of its own, as TFLM trusts every file:
an index beyond its lists ends the process.
"""

from penjing.runtime.tflm.file_in_tflm import FileInTflm
from penjing.runtime.tflm.operator_differences import OperatorDifference
from penjing.runtime.tflm.run_pair import allowed_difference
from penjing.runtime.tflm.tflm_comparison import TflmComparison, compare_in_tflm
from penjing.runtime.tflm.tflm_runner import (
    TFLM,
    Arena,
    TflmRun,
    TflmRunner,
    has_tflm,
    require_tflm,
    run_in_tflm,
)

__all__ = [
    "TFLM",
    "Arena",
    "FileInTflm",
    "OperatorDifference",
    "TflmComparison",
    "TflmRun",
    "TflmRunner",
    "allowed_difference",
    "compare_in_tflm",
    "has_tflm",
    "require_tflm",
    "run_in_tflm",
]
