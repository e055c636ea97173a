"""The command that runs Python for ARM, and the processors that QEMU plays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from penjing.arguments import check_choice
from penjing.arm.arm_packages import ArmFolder

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
