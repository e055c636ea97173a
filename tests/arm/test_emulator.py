"""The command of the emulator, with programs that stand in for QEMU."""

import pytest

from penjing.arm import emulator
from penjing.arm.arm_packages import ArmFolder
from penjing.errors import MissingDependencyError

pytestmark = pytest.mark.once


def test_the_processor_is_the_one_that_linux_tells_of(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    command = emulator.python_command(ArmFolder(tmp_path), "cortex-a76", root)
    assert command[1:5] == ["-cpu", "cortex-a76", "-L", str(root)]
    assert command[0].endswith("arm/root/usr/bin/qemu-aarch64")
    told = (root / "proc/cpuinfo").read_text()
    assert "CPU part\t: 0xd0b\n" in told and "asimddp" in told


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (None, "takes plugins, and none was found"),
        ("-cpu model", "takes plugins, and .*/qemu-mine takes none"),
    ],
)
def test_a_qemu_without_plugins_is_said(tmp_path, monkeypatch, said, message):
    program = tmp_path / "qemu-mine"
    if said is not None:
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
    monkeypatch.setenv(emulator.QEMU_VARIABLE, str(program))
    with pytest.raises(MissingDependencyError, match=message) as error:
        emulator.find_counting_qemu()
    assert "apt-get install qemu-user" in str(error.value)
    program.write_text("#!/bin/sh\necho '-plugin QEMU_PLUGIN'\n")
    program.chmod(0o755)
    assert emulator.find_counting_qemu() == str(program)
