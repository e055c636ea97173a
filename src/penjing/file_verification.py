"""The runtimes that files are proven in."""

from __future__ import annotations

import os
from typing import Any

from penjing.proof.file_proof import ProvingRuntime, VerifyReport, prove
from penjing.web.wasm_verification import WASM

RUNTIMES: dict[str, ProvingRuntime] = {"wasm": WASM}
"""By the names that `verify` takes."""


def verify(
    file: str | os.PathLike[str],
    runtime: str = "wasm",
    *,
    twin: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    samples: int = 8,
    engine: str = "node",
    threads: int = 1,
    rounds: int = 10,
    tolerance: float = 1e-4,
) -> VerifyReport:
    """Prove that a file computes the same in the runtime that it is for, and how fast.

    The file and its dense twin run there in turns. Sparse files that are right in
    Python can be silently wrong in LiteRT.js, and dense ones too in rare cases: so
    outputs are compared with the twin's in the same runtime, and with those in Python.

    Args:
        file: A `.tflite` file that the runtime takes as it is: for "wasm" one without
            free sizes.
        runtime: "wasm": LiteRT.js, the runtime of browsers.
        twin: A dense file of the same network. None: it is made from `file`, whose
            sparse tensors are written as dense ones.
        inputs: Real inputs `(samples, ...)`: an array, or a list of them in the order
            of the file's inputs, or a dict by name. None: random ones.
        samples: How many inputs are compared at most.
        engine: "node", or "chromium" for a browser without a window.
        threads: Threads that the runtime may use; Node has one.
        rounds: Rounds of the timing.
        tolerance: Difference to the twin that is taken for rounding, over the largest
            magnitude of an output.

    Returns:
        Differences, times and their ratio.

    Raises:
        ExportError: If outputs differ, or are no numbers.
        FileFormatError: If a file is missing, corrupt, or does not run there.
        DataError: If `inputs` do not fit.
        MissingDependencyError: If Node, a browser or the npm packages are missing.
        ValueError: If an argument is out of range.

    Example:
        >>> verify("sparse.tflite").ratio  # doctest: +SKIP
        3.4
    """
    if runtime not in RUNTIMES:
        known = " or ".join(map(repr, RUNTIMES))
        raise ValueError(f"`runtime` must be {known}, got {runtime!r}.")
    return prove(
        RUNTIMES[runtime],
        file,
        twin=twin,
        inputs=inputs,
        samples=samples,
        engine=engine,
        threads=threads,
        rounds=rounds,
        tolerance=tolerance,
    )
