"""Mark of tests that run files on an emulated ARM; without QEMU they are skipped."""

import pytest

from penjing.arm.arm_packages import find_arm
from penjing.arm.counting_emulator import find_compiler, find_counting_qemu
from penjing.errors import MissingDependencyError


def _missing(*find) -> str:
    try:
        for function in find:
            function()
    except MissingDependencyError as error:
        return str(error).splitlines()[0]
    return ""


def _needs(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(reason), reason=reason or "all is there")


needs_arm = _needs(_missing(find_arm))
needs_counting = _needs(_missing(find_arm, find_counting_qemu, find_compiler))
