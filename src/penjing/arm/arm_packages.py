"""Where QEMU, and Python with LiteRT for ARM, are."""

from __future__ import annotations

import dataclasses
import platform
import sys
from pathlib import Path

from penjing.arm.pinned_files import PACKAGES, pinned
from penjing.errors import MissingDependencyError
from penjing.runtime.fetched_folder import folder_for

FOLDER_VARIABLE = "PENJING_ARM_DIR"
CONTENT = "arm"
"""The folder in it that holds what was fetched."""


@dataclasses.dataclass(frozen=True)
class ArmFolder:
    """Where things lie in a folder that `setup_arm` made."""

    folder: Path

    @property
    def qemu(self) -> Path:
        """The emulator."""
        return self.root / "usr/bin/qemu-aarch64"

    @property
    def root(self) -> Path:
        """What an ARM program takes for the root of the file system."""
        return self.folder / CONTENT / "root"

    @property
    def python(self) -> Path:
        """Python for ARM."""
        return self.root / f"usr/bin/python{pinned()['python']}"

    @property
    def modules(self) -> Path:
        """Where LiteRT and NumPy for ARM are."""
        return self.folder / CONTENT / "modules"


def find_arm() -> ArmFolder:
    """Give the folder with QEMU and Python for ARM.

    A missing one, or that of other versions, is a MissingDependencyError.
    """
    check_machine()
    folder = arm_folder()
    if not is_complete(folder):
        raise MissingDependencyError(
            "Running on ARM needs QEMU, and Python with LiteRT for ARM, which are not "
            "part of penjing. Fetch them once with: penjing setup-arm\n"
            f"(They were looked for in {folder}; the variable {FOLDER_VARIABLE} names "
            "another folder.)"
        )
    return ArmFolder(folder)


def arm_folder() -> Path:
    """Where it belongs: what the variable says, else the user's cache."""
    return folder_for(f"arm-litert-{pinned()['litert']}", FOLDER_VARIABLE)


def check_machine() -> None:
    """Refuse machines on which there is no such QEMU."""
    machine = platform.machine().lower()
    if sys.platform == "linux" and machine in ("x86_64", "amd64"):
        return
    advice = "Use such a machine, a container or WSL"
    if machine in ("aarch64", "arm64"):
        advice = "This processor is ARM itself: files run on ARM's kernels here anyway"
    raise MissingDependencyError(
        f"ARM is emulated on Linux on x86-64 only; this is {sys.platform} on "
        f"{machine or 'an unknown processor'}. {advice}."
    )


def is_complete(folder: Path) -> bool:
    """Whether all is there, in the pinned versions."""
    try:
        return (folder / PACKAGES.name).read_bytes() == PACKAGES.read_bytes()
    except OSError:
        return False
