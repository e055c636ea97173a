"""A QEMU that counts instructions: one with plugins, and the plugin that counts.

Debian builds its static QEMU, which `penjing setup-arm` fetches, without plugins. So
this one is the system's, and the plugin is compiled for it when it is needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from penjing.arm.arm_session import ArmSession
from penjing.errors import CompressionError, MissingDependencyError
from penjing.files import temporary_folder

QEMU_VARIABLE = "PENJING_QEMU"
_PROGRAMS = ("qemu-aarch64", "qemu-aarch64-static")
_COMPILERS = ("cc", "gcc", "clang")
_SOURCE = Path(__file__).parent / "instruction_counter.c"
_SECOND_INTERFACE = 9  # the QEMU from which on plugins of the first one are refused
_SECONDS = 60


@contextlib.contextmanager
def counting_session(engine: str, threads: int) -> Iterator[tuple[ArmSession, Path]]:
    """Start LiteRT on an emulated processor whose instructions are counted.

    Gives the session, and the file into which the emulator counts.

    Raises:
        MissingDependencyError: If QEMU with plugins, a C compiler or what
            `penjing setup-arm` fetches is missing.
        CompressionError: If the plugin cannot be compiled, or QEMU does not start.
        ValueError: If the engine is unknown.
    """
    qemu, compiler = find_counting_qemu(), find_compiler()
    with temporary_folder("penjing-counter") as folder:
        counter, plugin = folder / "counter", folder / "counter.so"
        counter.write_bytes(bytes(8))
        _compile(compiler, plugin, 2 if _major(qemu) >= _SECOND_INTERFACE else 1)
        options = ["-plugin", f"{plugin},counter={counter}"]
        with ArmSession(engine, threads=threads, qemu=qemu, options=options) as session:
            yield session, counter


def find_counting_qemu() -> str:
    """Give the path of a QEMU with plugins, by which instructions can be counted.

    Debian builds its static one without. A missing one is a MissingDependencyError.
    """
    named = os.environ.get(QEMU_VARIABLE)
    found = [shutil.which(name) for name in ([named] if named else _PROGRAMS)]
    for program in found:
        if program is not None and _takes_plugins(program):
            return program
    there = ", ".join(program for program in found if program)
    happened = f"{there} takes none" if there else "none was found"
    raise MissingDependencyError(
        f"Counting instructions needs a QEMU that takes plugins, and {happened}. That "
        "of Debian 12, Ubuntu 24.04 and Fedora does: apt-get install qemu-user, or dnf "
        f"install qemu-user. Or name its program in the variable {QEMU_VARIABLE}. "
        "(penjing verify does without.)"
    )


def find_compiler() -> str:
    """Give the path of a C compiler; a missing one is a MissingDependencyError."""
    for name in _COMPILERS:
        found = shutil.which(name)
        if found is not None:
            return found
    raise MissingDependencyError(
        "Counting instructions needs a C compiler, for a plugin of QEMU, and none of "
        f"{', '.join(_COMPILERS)} was found. Install one: apt-get install gcc, or dnf "
        "install gcc."
    )


def _compile(compiler: str, plugin: Path, interface: int) -> None:
    said = _output(
        [compiler, "-O2", "-shared", "-fPIC", f"-DINTERFACE={interface}"]
        + ["-o", str(plugin), str(_SOURCE)]
    )
    if not plugin.exists():
        raise CompressionError(
            f"{compiler} cannot compile the plugin that counts instructions: "
            f"{said[-500:] or '(it says nothing)'}"
        )


def _takes_plugins(program: str) -> bool:
    return "-plugin" in _output([program, "-h"])


def _major(qemu: str) -> int:
    found = re.search(r"version (\d+)", _output([qemu, "--version"]))
    return int(found[1]) if found else 0


def _output(words: list[str]) -> str:
    """What a program prints, on either stream; nothing where it does not run."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
