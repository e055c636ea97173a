"""`penjing setup-arm`: what runs files on an emulated ARM processor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penjing.cli.console import print_setup, progress_bar


def setup_arm(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            help="Where to. Default: what PENJING_ARM_DIR says, else the user's cache "
            "folder; penjing looks in these two.",
        ),
    ] = None,
) -> None:
    """Fetch an emulated ARM processor with LiteRT, once: about 110 MB.

    QEMU and Python from a mirror of Debian, LiteRT and NumPy for ARM by pip:
    exactly the files that penjing was tested with, compared with the digests that
    it brings. On Linux on x86-64, nothing is installed into the system. Then
    `penjing verify --runtime arm` and `penjing benchmark --runtime arm` work,
    without a network too. Stopped in the middle, it goes on from there.

    [bold]Examples[/bold]

        $ penjing setup-arm
        $ penjing setup-arm --dir tools/arm
    """
    with progress_bar("Looking what is there") as progress:
        from penjing.arm.arm_packages import FOLDER_VARIABLE, arm_folder
        from penjing.arm.arm_setup import setup_arm as run

        done = run(folder, progress=progress)
        found = done.folder == arm_folder()
    print_setup(done, FOLDER_VARIABLE, is_found=found)
