"""Vela, the compiler for Arm's Ethos-U processors, and what it says a file takes.

Nobody runs a file here: flash, SRAM and cycles are estimates of the compiler, and are
called so. It comes with the package `ethos-u-vela`; no other room imports it. It works
in a process of its own, as its readers trust every file.
"""

from penjing.runtime.ethos_u.vela_runner import (
    PROCESSORS,
    VelaEstimate,
    estimate_by_vela,
    has_vela,
    require_vela,
)

__all__ = [
    "PROCESSORS",
    "VelaEstimate",
    "estimate_by_vela",
    "has_vela",
    "require_vela",
]
