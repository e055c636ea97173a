"""Proofs in TensorFlow Lite Micro, which runs no two files at once and tells no time.

It imports no Keras, and neither may what it imports: a proof takes less than a second.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from penjing.arguments import check_counts, check_tolerance
from penjing.errors import ExportError
from penjing.files import as_path, temporary_folder
from penjing.packing.packing import restore
from penjing.proof.output_comparison import check_finite
from penjing.proof.verify_report import VerifyReport
from penjing.runtime.interpreter import LiteRTModel, fixed_batch
from penjing.runtime.tflm import TFLM, Arena, compare_in_tflm
from penjing.tflite.decode_records import DECODE, is_packed
from penjing.tflite.loading import load_records, read_litert

_TWIN_NAME = "(the same file, not packed)"


def prove_in_tflm(
    file: str | os.PathLike[str],
    *,
    twin: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    samples: int | None = None,
    tolerance: float | None = None,
    max_arena: int | None = None,
) -> VerifyReport:
    """Prove that a file computes the same in TFLM; see `penjing.verify`."""
    for name, count in (("samples", samples), ("max_arena", max_arena)):
        if count is not None:
            check_counts(**{name: count})
    if tolerance is not None:
        check_tolerance(tolerance)
    path = as_path(file)
    content = read_litert(path)
    twin_name, plain = _twin(path, content, twin)
    options: dict[str, Any] = {} if samples is None else {"samples": samples}
    if inputs is not None:
        options["inputs"] = _stored(plain or content, path, inputs, samples)
    found = compare_in_tflm(
        content, where=str(path), twin=plain, tolerance=tolerance, **options
    )
    _check_arena(path, found.arena, max_arena)
    to_twin = None if plain is None else 0.0  # else it was refused
    return VerifyReport(
        file=str(path),
        twin=twin_name,
        samples=found.samples,
        difference=to_twin,
        relative_difference=to_twin,
        python_difference=found.difference,
        python_relative_difference=found.relative_difference,
        passed_by=found.passed_by,
        runtime=TFLM,
        micro=found,
    )


def _twin(
    path: Path, content: bytes, twin: str | os.PathLike[str] | None
) -> tuple[str | None, bytes | None]:
    """Name and content of the twin: for a packed file it is made from the file."""
    if twin is not None:
        other = as_path(twin)
        return str(other), read_litert(other)
    if DECODE in content and is_packed(load_records(content, str(path))):
        return _TWIN_NAME, restore(content, str(path))
    return None, None


def _stored(
    content: bytes, path: Path, inputs: Any, samples: int | None
) -> list[list[Any]]:
    """The user's samples as the file stores them, one run for each batch of the file.

    Of several samples in one run, which TFLM allows too, the last ones are repeated.
    """
    with temporary_folder("penjing-proof") as folder:
        file = folder / "plain.tflite"
        file.write_bytes(content)
        model = LiteRTModel(file)
    model.path = path  # which messages name
    arrays = model.match(inputs)
    check_finite(arrays)
    count = len(arrays[0]) if samples is None else min(samples, len(arrays[0]))
    batch = max(1, fixed_batch(model.inputs))
    runs = []
    for start in range(0, count, batch):
        places = np.minimum(np.arange(start, start + batch), count - 1)
        pairs = zip(model.inputs, arrays, strict=True)
        runs.append([spec.encode(array[places]) for spec, array in pairs])
    return runs


def _check_arena(path: Path, arena: Arena, most: int | None) -> None:
    if most is not None and arena.total > most:
        raise ExportError(
            f"{path} needs an arena of {arena.total:,} bytes in {TFLM}, "
            f"{arena.total - most:,} more than the {most:,} of `max_arena`. "
            f"{arena.head:,} are activations and decoded weights: smaller inputs and "
            "fewer channels (penjing.prune_channels) take less; of a packed file, "
            "weights that do not fit can stay plain. The rest grows with the number of "
            "operators."
        )
