"""What penjing works with, as a part of an installation, and what jobs need of it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from penjing.json_values import JsonValue

_CHECKOUT = Path(__file__).resolve().parents[4]

SUPPORTED = {
    "ai-edge-litert": ">=2.0",
    "ethos-u-vela": "==5.2.0",
    "jax": ">=0.6",
    "keras": ">=3.12,<4",
    "pillow": ">=10",
    "ray": ">=2.40",
    "tensorflow": ">=2.20",
    "tflite-micro": "==0.dev20261023182759",
    "torch": ">=2.6",
}
"""Versions that penjing supports, as pyproject.toml has them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part(JsonValue):
    """What was found of one part.

    Args:
        name: Its name, for programs.
        label: What people call it.
        status: `"ok"`; `"missing"`; `"broken"`: there, and does not work;
            `"unsupported"`: of a version that penjing does not support.
        version: Its version, where it is known.
        detail: What it did, or why it does not work.
        command: What brings or mends it, as it is typed; empty where nothing does.
    """

    name: str
    label: str
    status: str
    version: str = ""
    detail: str = ""
    command: str = ""

    @property
    def works(self) -> bool:
        """Whether it can be used."""
        return self.status == "ok"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A kind of work: what people call it, and names of parts that it needs.

    Of parts that are joined by "|" one is enough.
    """

    label: str
    needs: tuple[str, ...]
    extras: tuple[str, ...] = ()

    @property
    def parts(self) -> list[str]:
        """All parts that are looked at for it."""
        return [
            name for need in (*self.needs, *self.extras) for name in need.split("|")
        ]


_BACKEND = "tensorflow|jax|torch"
_EXPORT = ("python", "keras", _BACKEND, "converter", "litert")
JOBS = {
    "train": Job(label="compress models in training", needs=_EXPORT[:3]),
    "export": Job(label="write .tflite files", needs=_EXPORT),
    "run": Job(label="run .tflite files on this machine", needs=("python", "litert")),
    "verify-micro": Job(
        label="prove files for microcontrollers", needs=("python", "litert", "tflm")
    ),
    "verify-arm": Job(
        label="prove files for ARM",
        needs=("python", "litert", "arm"),
        extras=("arm-counter",),
    ),
    "verify-wasm": Job(
        label="prove files for browsers",
        needs=("python", "litert", "node"),
        extras=("chromium",),
    ),
    "microcontrollers": Job(
        label="write files and C code for microcontrollers, estimate Ethos-U",
        needs=(*_EXPORT, "tflm", "vela"),
    ),
    "search-workers": Job(
        label="search on a Ray cluster (not needed on one machine)",
        needs=(*_EXPORT, "ray"),
    ),
    "images": Job(label="learn from folders of images", needs=("python", "pillow")),
}
"""What can be done, by the name that `penjing doctor --for` takes."""


def missing_needs(job: Job, parts: dict[str, Part]) -> list[list[Part]]:
    """What a job lacks: for each of its needs that nothing meets, what would."""
    lacks = []
    for need in job.needs:
        found = [parts[name] for name in need.split("|")]
        if not any(part.works for part in found):
            lacks.append(found)
    return lacks


def install_extra(extra: str) -> str:
    """The command that installs an extra of penjing into this environment.

    pip takes the extra from penjing as it is installed; where it is not, and runs from
    a checkout, from there.
    """
    try:
        importlib.metadata.distribution("penjing")
    except importlib.metadata.PackageNotFoundError:
        return f'{pip_install()} "{_CHECKOUT}[{extra}]"'
    return f'{pip_install()} "penjing[{extra}]"'


def install_package(package: str, *options: str) -> str:
    """The command that installs a version of a package that penjing supports."""
    return " ".join([pip_install(), *options, f'"{package}{SUPPORTED[package]}"'])


def install_again(package: str) -> str:
    """The command that replaces what is there of a package."""
    return install_package(package, "--force-reinstall", "--no-deps")


def pip_install() -> str:
    """What installs packages into this environment."""
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is None:  # as uv makes them
        return f"uv pip install --python {python}"
    found = shutil.which("pip")
    own = os.path.dirname(os.path.abspath(sys.executable))
    if found is not None and os.path.dirname(os.path.abspath(found)) == own:
        return "pip install"
    return f"{python} -m pip install"


def is_supported(package: str, version: str) -> bool:
    """Whether a version is one of those that penjing supports.

    Example:
        >>> is_supported("keras", "3.15.1"), is_supported("keras", "4.0")
        (True, False)
    """
    found = _numbers(version)
    for bound in SUPPORTED[package].split(","):
        sign, wanted = re.fullmatch(r"([<>=]+)(.+)", bound).groups()  # type: ignore[union-attr]
        if sign == ">=" and found < _numbers(wanted):
            return False
        if sign == "<" and found >= _numbers(wanted):
            return False
        if sign == "==" and version != wanted:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version; what comes behind them, as rc1 or +cpu, is left out."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
