import importlib.metadata
import os
import platform
import socket

import pytest

from penjing.measurement import machine
from penjing.measurement.machine import (
    describe_environment,
    litert_name,
    processor_name,
)

pytestmark = pytest.mark.once


def test_the_environment_names_versions_but_no_host_and_no_folder():
    environment = describe_environment("tensorflow")
    assert environment.packages["keras"]
    assert environment.packages["tensorflow"]
    assert environment.python == platform.python_version()
    assert environment.cores >= 1
    text = repr(environment)
    assert socket.gethostname() not in text
    assert os.path.expanduser("~") not in text


def test_a_package_that_is_not_there_is_left_out():
    packages = describe_environment("no-such-backend").packages
    assert list(packages)[:3] == ["penjing", "keras", "numpy"]
    assert "no-such-backend" not in packages


def test_the_runtime_has_name_and_version():
    assert litert_name().startswith("LiteRT 2.")


@pytest.mark.parametrize(
    ("installed", "name"), [("ai-edge-litert-nightly", "LiteRT 9"), ("", "LiteRT")]
)
def test_the_runtime_may_be_a_nightly_build(monkeypatch, installed, name):
    def version(package):
        if package != installed:
            raise importlib.metadata.PackageNotFoundError
        return "9"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert litert_name() == name
    packages = describe_environment("tensorflow").packages
    assert packages.get("ai-edge-litert-nightly") == ("9" if installed else None)


def test_the_processor_is_named_by_linux_or_by_python(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_bytes(b"processor : 0\nmodel name\t: A \xff 3: fast \nmodel name : B\n")
    monkeypatch.setattr(machine, "_CPU_INFO", str(info))
    assert processor_name() == "A \N{REPLACEMENT CHARACTER} 3: fast"
    info.unlink()
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert processor_name() == "abacus"
