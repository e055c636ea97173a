"""What a `.tflite` file may take while it runs, and what is said where it takes more.

A file of a few kilobytes can ask for any memory, or never end. The bounds grow with the
file and with what its caller feeds it; the variable `PENJING_LIMITS` raises them all.
"""

from __future__ import annotations

from penjing.errors import FileFormatError
from penjing.files import limit, raise_limits
from penjing.runtime.worker_process import Bounds, OrderError, WorkerEndError
from penjing.tflite.decode_records import DECODE, is_packed
from penjing.tflite.loading import load_records

_MEMORY = 3 * 2**29
_MEMORY_PER_BYTE = 16  # of the file: kernels make copies of weights
_MEMORY_PER_INPUT = 64  # for each byte of an input: activations
_MEMORY_PER_THREAD = 2**28  # reserved, mostly not used
_SECONDS = 15
_BYTES_PER_SECOND = 500_000
_INPUTS_PER_SECOND = 1_000_000
# Each weight meets each value of the inputs, on a slow core.
_PRODUCT_PER_SECOND = 2e10
# Of inputs whose sizes the file itself declares: they are not to raise much.
_MEMORY_PER_DECLARED = 16
_DECLARED_PER_SECOND = 8_000_000
_DECLARED_PRODUCT_PER_SECOND = 1e11
_OUTPUT_BYTES = 2**29
_LONGEST_WORDS = 1000


def bounds_for(
    size: int, *, inputs: int = 0, declared: int = 0, threads: int = 1
) -> Bounds:
    """Bounds of one order about a file of `size` bytes.

    `inputs` are the bytes of the user's data, `declared` of made-up inputs, whose sizes
    the file declares.
    """
    memory = _MEMORY + _MEMORY_PER_BYTE * size
    memory += _MEMORY_PER_INPUT * inputs + _MEMORY_PER_DECLARED * declared
    seconds = _SECONDS + size // _BYTES_PER_SECOND
    seconds += inputs // _INPUTS_PER_SECOND + declared // _DECLARED_PER_SECOND
    seconds += int(size * inputs / _PRODUCT_PER_SECOND)
    seconds += int(size * declared / _DECLARED_PRODUCT_PER_SECOND)
    return Bounds(
        memory=limit(memory + _MEMORY_PER_THREAD * (threads - 1)),
        seconds=max(limit(seconds * threads), 1),
    )


def most_output(inputs: int) -> int:
    """Bytes that one run may give for so many bytes of inputs."""
    return limit(_OUTPUT_BYTES + _MEMORY_PER_INPUT * inputs)


def refuse_packed(content: bytes, where: str, runtime: str = "LiteRT") -> None:
    """Refuse a file for TFLM alone, before LiteRT speaks of damage; others pass.

    Its operators are looked for, not LiteRT's words: which part of such a file LiteRT
    refuses first depends on the file.
    """
    if is_for_tflm(content, where):
        raise FileFormatError(
            f"{runtime} cannot run {where}: it is packed for TensorFlow Lite Micro "
            f"only, whose operator TFLM_DECODE {runtime} lacks. Run the plain file "
            "from which penjing.pack_litert made it, or penjing.verify(file, 'micro')."
        )


def is_for_tflm(content: bytes, where: str) -> bool:
    """Whether a file is whole and packed, so that TFLM alone runs it."""
    if DECODE not in content:
        return False
    try:
        return is_packed(load_records(content, where))
    except FileFormatError:  # a damaged one is LiteRT's to refuse
        return False


def unrunnable(where: str, error: BaseException) -> FileFormatError:
    """The error of a file that the runtime refuses, with the runtime's own words."""
    return FileFormatError(
        f"LiteRT cannot run {where}: {said(error)} The file is damaged, or it needs "
        "operations that this runtime does not have, or more memory than it may take. "
        f"{raise_limits()}"
    )


def ended(
    where: str, error: WorkerEndError, *, advice: str = "", runtime: str = "LiteRT"
) -> FileFormatError:
    """The error of a file that ended its process, or was ended with it."""
    if error.seconds is not None:
        return FileFormatError(
            f"{runtime} runs {where} for more than {error.seconds:g} seconds at once. "
            f"The file is damaged, or slow on this machine. {advice}{raise_limits()}"
        )
    return FileFormatError(
        f"{runtime} crashes on {where} (exit code {error.exit_code}). The file is "
        f"damaged, or needs more memory than it may take. {advice}{raise_limits()}"
    )


def said(error: BaseException) -> str:
    """The words of an error, as one sentence of bounded length."""
    text = " ".join(str(error).split())[:_LONGEST_WORDS] or type(error).__name__
    return text.rstrip(".") + "."


def lacked_memory(error: BaseException) -> bool:
    """Whether the error of a run may be for lack of memory: it says so, or it crashed.

    Fewer inputs at once may then run.
    """
    cause = error.__cause__
    if isinstance(cause, WorkerEndError):
        return cause.seconds is None
    return cause is not None and out_of_memory(cause)


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory was lacking."""
    kind = error.kind if isinstance(error, OrderError) else type(error).__name__
    words = ("MemoryError", "allocate", "bad_alloc", "memory")
    return any(word in f"{kind} {error}" for word in words)
