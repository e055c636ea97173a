"""Which versions are supported, what jobs lack, and commands that are true."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

from penjing.cli.doctor import parts
from penjing.cli.doctor.doctor_command import JobName
from penjing.cli.doctor.parts import JOBS, SUPPORTED, Part, is_supported, missing_needs
from penjing.cli.doctor.trials import PARTS

pytestmark = pytest.mark.once
PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_supported_versions_are_those_of_the_project():
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [
        *project["dependencies"],
        *(one for all_ in extras.values() for one in all_),
    ]
    for package, versions in SUPPORTED.items():
        assert [one for one in listed if one.split(";")[0] == package + versions]


@pytest.mark.parametrize(
    ("package", "version", "good"),
    [
        ("keras", "3.12.0", True),
        ("keras", "3.9.2", False),
        ("keras", "4.0.0", False),
        ("torch", "2.13.0+cpu", True),
        ("tensorflow", "2.21.0rc1", True),
        ("ethos-u-vela", "5.2.1", False),
        ("jax", "unknown", False),
    ],
)
def test_versions(package, version, good):
    assert is_supported(package, version) is good


def part(name, status="ok"):
    return Part(name=name, label=name.title(), status=status, command=f"get {name}")


def test_one_of_three_backends_is_enough():
    found = {name: part(name) for name in PARTS}
    found["jax"] = found["torch"] = part("jax", "missing")
    assert missing_needs(JOBS["train"], found) == []
    found["tensorflow"] = part("tensorflow", "broken")
    lacks = missing_needs(JOBS["train"], found)
    assert [one.name for one in lacks[0]] == ["tensorflow", "jax", "jax"]


def test_what_is_not_needed_does_not_hold_a_job_up():
    found = {name: part(name) for name in PARTS}
    found["chromium"] = part("chromium", "missing")
    assert missing_needs(JOBS["verify-wasm"], found) == []
    found["node"] = part("node", "missing")
    assert [need[0].name for need in missing_needs(JOBS["verify-wasm"], found)] == [
        "node"
    ]


def test_every_job_can_be_asked_for():
    assert [job.value for job in JobName] == list(JOBS)


def test_every_need_of_a_job_is_tried():
    assert {name for job in JOBS.values() for name in job.parts} <= set(PARTS)


def absent(name):
    raise importlib.metadata.PackageNotFoundError(name)


def test_an_extra_comes_from_penjing_as_it_is_installed_or_from_the_checkout(
    monkeypatch,
):
    monkeypatch.setattr(parts.shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: object())
    pip = f"{sys.executable} -m pip install"
    assert parts.install_extra("images") == f'{pip} "penjing[images]"'
    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert parts.install_extra("images") == f'{pip} "{parts._CHECKOUT}[images]"'


def test_packages_are_installed_without_pip_too(monkeypatch):
    monkeypatch.setattr(parts.importlib.util, "find_spec", lambda name: None)
    python = parts.shlex.quote(sys.executable)
    wanted = f'uv pip install --python {python} "pillow>=10"'
    assert parts.install_package("pillow") == wanted
