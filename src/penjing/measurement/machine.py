"""What measurements ran on: packages, processor, cores."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Mapping

from penjing.json_values import JsonValue
from penjing.version import __version__

_LITERT = ("ai-edge-litert", "ai-edge-litert-nightly")
_CPU_INFO = "/proc/cpuinfo"  # Linux; elsewhere Python knows the name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment(JsonValue):
    """What the measurements ran on; it names no person, host or folder.

    Args:
        packages: Version by package.
        backend: The Keras backend.
        python: Version of Python.
        system: Name of the operating system.
        processor: Model of the processor.
        cores: Logical processors that this process may use.
    """

    packages: Mapping[str, str]
    backend: str
    python: str
    system: str
    processor: str
    cores: int


def describe_environment(backend: str) -> Environment:
    """Describe machine and packages, the Keras backend too; no names or folders."""
    packages = {"penjing": __version__}
    for name in ("keras", "numpy", backend, *_LITERT):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return Environment(
        packages=packages,
        backend=backend,
        python=platform.python_version(),
        system=platform.system(),
        processor=processor_name(),
        cores=cores,
    )


def litert_name() -> str:
    """Name of the runtime in Python, and its version where a package tells it."""
    for name in _LITERT:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"LiteRT {importlib.metadata.version(name)}"
    return "LiteRT"


def processor_name() -> str:
    """Name of this machine's processor, as the system gives it."""
    with (
        contextlib.suppress(OSError),
        open(_CPU_INFO, encoding="utf-8", errors="replace") as file,
    ):
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
