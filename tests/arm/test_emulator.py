"""The command of the emulator, and the processor that it plays."""

import pytest

from penjing.arm import emulator
from penjing.arm.arm_packages import ArmFolder

pytestmark = pytest.mark.once


def test_the_processor_is_the_one_that_linux_tells_of(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    command = emulator.python_command(ArmFolder(tmp_path), "cortex-a76", root)
    assert command[1:5] == ["-cpu", "cortex-a76", "-L", str(root)]
    assert command[0].endswith("arm/root/usr/bin/qemu-aarch64")
    told = (root / "proc/cpuinfo").read_text()
    assert "CPU part\t: 0xd0b\n" in told and "asimddp" in told
