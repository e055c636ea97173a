"""The command that runs Python for ARM, and the processors that QEMU plays."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from penjing.arguments import check_choice
from penjing.arm.arm_packages import ArmFolder
from penjing.errors import MissingDependencyError

_OLDER = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_NEWER = f"{_OLDER} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
PROCESSORS = {
    "cortex-a72": ("0xd08", _OLDER),
    "cortex-a76": ("0xd0b", _NEWER),
    "neoverse-n1": ("0xd0c", _NEWER),
}
"""What files can run on -> its number and its features, as Linux tells them.

A Cortex-A72 (2016, Raspberry Pi 4) has no instructions for products of int8; a
Cortex-A76 (2018, phones, Raspberry Pi 5) and its sister for servers have.
"""

QEMU_VARIABLE = "PENJING_QEMU"
_PROGRAMS = ("qemu-aarch64", "qemu-aarch64-static")
_CPUINFO = """processor\t: {number}
BogoMIPS\t: 100.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3

"""


def python_command(
    arm: ArmFolder,
    processor: str,
    root: Path,
    *,
    qemu: str | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """The words of a command that runs Python for ARM.

    `root`, an empty folder, becomes what the programs take for the root of the file
    system: QEMU before 8.1 shows them this machine's /proc/cpuinfo, at which LiteRT
    crashes.
    """
    check_processor(processor)
    (root / "usr").symlink_to(arm.root / "usr")
    (root / "lib").symlink_to(arm.root / "usr" / "lib")  # what starts programs
    part, features = PROCESSORS[processor]
    told = root / "proc" / "cpuinfo"
    told.parent.mkdir()
    told.write_text(
        "".join(
            _CPUINFO.format(number=number, part=part, features=features)
            for number in range(os.cpu_count() or 1)
        )
    )
    program = [qemu or str(arm.qemu), "-cpu", processor, "-L", str(root)]
    return [*program, *options, str(arm.python)]


ENVIRONMENT = {
    # What is set for programs of this machine means nothing on the other one.
    **dict.fromkeys(("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME"), ""),
    "PYTHONDONTWRITEBYTECODE": "",  # compiled code halves the start
    "OPENBLAS_NUM_THREADS": "1",
}
"""Variables that programs for ARM get."""


def check_processor(name: str) -> None:
    """Refuse, with a ValueError, what is none of `PROCESSORS`."""
    check_choice("engine", name, tuple(PROCESSORS))


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
        "of Debian 12, Ubuntu 22.04 and 24.04 and Fedora does: apt-get install "
        f"qemu-user, or dnf install qemu-user. Or name its program in the variable "
        f"{QEMU_VARIABLE}. (penjing verify needs none of this.)"
    )


def _takes_plugins(program: str) -> bool:
    try:
        done = subprocess.run(
            [program, "-h"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "-plugin" in done.stdout
