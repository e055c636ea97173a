"""The runtimes that files are proven in.

Each is imported when it is asked for: a proof for microcontrollers takes less than a
second, and those for others load Keras.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from penjing.proof.verify_report import VerifyReport


def _prove_micro(
    file: str | os.PathLike[str],
    *,
    engine: str | None,
    threads: int,
    rounds: int,
    **options: Any,
) -> VerifyReport:
    from penjing.proof.micro_proof import prove_in_tflm

    if engine is not None or threads != 1:
        raise ValueError(
            "A microcontroller has one thread and no `engine`, got "
            f"engine={engine!r} and threads={threads!r}. Leave them out."
        )
    return prove_in_tflm(file, **options)


def _prove_wasm(file: str | os.PathLike[str], **options: Any) -> VerifyReport:
    from penjing.proof.file_proof import prove
    from penjing.web.wasm_verification import WASM

    return prove(WASM, file, **_without_arena(options))


def _prove_x86(file: str | os.PathLike[str], **options: Any) -> VerifyReport:
    from penjing.proof.file_proof import prove
    from penjing.proof.litert_proof import X86

    return prove(X86, file, **_without_arena(options))


def _prove_arm(file: str | os.PathLike[str], **options: Any) -> VerifyReport:
    from penjing.arm.arm_verification import ARM
    from penjing.proof.file_proof import prove

    return prove(ARM, file, **_without_arena(options))


RUNTIMES: dict[str, Callable[..., VerifyReport]] = {
    "arm": _prove_arm,
    "micro": _prove_micro,
    "wasm": _prove_wasm,
    "x86": _prove_x86,
}
"""By the names that `verify` takes: what proves a file there, given all of its options.
"""


def require_runtime(runtime: str) -> None:
    """Raise a MissingDependencyError that says what to install, if it is not here.

    Nothing is started, so it takes a moment.
    """
    if runtime == "micro":
        from penjing.runtime.tflm.tflm_runner import require_tflm

        require_tflm()
    elif runtime == "wasm":
        from penjing.web.npm_packages import find_node, find_packages

        find_packages()
        find_node()
    elif runtime == "arm":
        from penjing.arm.arm_packages import find_arm

        find_arm()


def verify(
    file: str | os.PathLike[str],
    runtime: str = "wasm",
    *,
    twin: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    samples: int | None = None,
    engine: str | None = None,
    threads: int = 1,
    rounds: int = 10,
    tolerance: float | None = None,
    max_arena: int | None = None,
) -> VerifyReport:
    """Prove that a file computes the same in the runtime that it is for.

    Files that are right in Python can be silently wrong elsewhere, as each runtime has
    kernels of its own. So a file runs there, and its outputs are compared with those in
    Python, and with those of a dense twin in the same runtime, with which it takes
    turns and is timed.

    For "micro" all tensors are compared with those of LiteRT's reference kernels, and
    an operator that is wrong is named; the report says what RAM and flash the file
    takes. What counts as rounding there: 1e-5 of floats, no step of int8 convolutions,
    2 of other int8 operators, 4 of int16.

    Elsewhere outputs may differ from those in Python by 1e-3 of their magnitude, those
    of integers by 5 %. What is beyond is looked into for "x86": each operator runs by
    itself, by fast kernels and by plain ones. It is right if each rounds by 2 steps of
    int8 at most, or 4 of int16, and the whole file gives what its operators give.

    Args:
        file: A `.tflite` file that the runtime takes as it is: for "wasm" and "micro"
            one without free sizes.
        runtime: "wasm": LiteRT.js, the runtime of browsers. "x86": LiteRT on this
            machine. "arm": LiteRT on an emulated ARM processor, as in phones and small
            computers; see `penjing setup-arm`. "micro": TensorFlow Lite Micro, the
            interpreter of microcontrollers.
        twin: A dense file of the same network. None: it is made from `file`, whose
            sparse tensors are written as dense ones. For "micro" the plain file that a
            packed one was made from; both must give the same, bit for bit.
        inputs: Real inputs `(samples, ...)`: an array, or a list of them in the order
            of the file's inputs, or a dict by name. None: random ones, for "micro" the
            ends of the types too.
        samples: How many inputs are compared at most. None: 8; for "micro" 4 random
            ones, or all `inputs`.
        engine: For "wasm": "node", which is the default, or "chromium" for a browser
            without a window. For "arm": the processor, "cortex-a72", which is the
            default, "cortex-a76" or "neoverse-n1".
        threads: Threads that the runtime may use; Node and "micro" have one.
        rounds: Rounds of the timing; "micro" and "arm" have none, as times here say
            nothing of the device; see `count_instructions`.
        tolerance: Difference to the twin that is taken for rounding, over the largest
            magnitude of an output; 1e-4 by default. For "micro" difference to LiteRT
            that is let pass where all operators seem right; by default only what is
            proven to be the sum of roundings.
        max_arena: For "micro": bytes of RAM that the device has for the arena. A file
            that needs more is refused.

    Returns:
        Differences; times and their ratio; for "micro" arena, operators and flash.

    Raises:
        ExportError: If outputs differ, or are no numbers; if the arena is too large.
        FileFormatError: If a file is missing, corrupt, or does not run there.
        DataError: If `inputs` do not fit.
        MissingDependencyError: If Node, a browser, the npm packages, the extra
            penjing[micro] or what `penjing setup-arm` fetches are missing.
        ValueError: If an argument is out of range.

    Example:
        >>> verify("sparse.tflite").ratio  # doctest: +SKIP
        3.4
        >>> verify("small.tflite", "micro").micro.arena.total  # doctest: +SKIP
        17328
    """
    if runtime not in RUNTIMES:
        known = " or ".join(map(repr, RUNTIMES))
        raise ValueError(f"`runtime` must be {known}, got {runtime!r}.")
    return RUNTIMES[runtime](
        file,
        twin=twin,
        inputs=inputs,
        samples=samples,
        engine=engine,
        threads=threads,
        rounds=rounds,
        tolerance=tolerance,
        max_arena=max_arena,
    )


def _without_arena(options: dict[str, Any]) -> dict[str, Any]:
    if options.pop("max_arena") is not None:
        raise ValueError("`max_arena` is for runtime='micro': no other has an arena.")
    return options
