"""`penjing doctor`: parts are tried, lines can be copied, exit codes are true."""

import importlib.metadata
import json
import platform

import pytest

from penjing import cli
from penjing.cli.doctor import trials
from penjing.cli.doctor.parts import Part
from penjing.errors import MissingDependencyError

pytestmark = pytest.mark.once
LONG = 'pip install "/a/path/that/is/longer/than/a/line/of/the/terminal[tensorflow]"'


def ok(name):
    return Part(name=name, label=name.title(), status="ok", version="1.0")


def found(*missing):
    """All parts, some of them missing."""
    everything = {name: ok(name) for name in trials.PARTS}
    for name in missing:
        everything[name] = Part(
            name=name,
            label=name.title(),
            status="missing",
            detail="It was looked for in many places, and was found in none.",
            command=LONG,
        )
    return everything


@pytest.fixture
def missing(monkeypatch):
    """Let parts be missing."""

    def tell(*names):
        everything = found(*names)
        monkeypatch.setattr(
            trials, "try_parts", lambda wanted: {n: everything[n] for n in wanted}
        )

    return tell


def said(capsys, *arguments, code=0):
    assert cli.main(["doctor", *arguments]) == code
    return capsys.readouterr().out


def test_every_job_is_ready_where_all_is_there(capsys, missing):
    missing()
    table = json.loads(said(capsys, "--json"))
    assert all(job["ready"] for job in table["jobs"].values())
    assert [part["name"] for part in table["parts"]] == trials.PARTS


def test_a_job_that_lacks_something_names_the_command(capsys, missing, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    missing("converter", "jax")
    text = said(capsys, "--for", "export", code=1)
    lines = text.splitlines()
    assert f"    $ {LONG}" in lines, "commands stay whole"
    assert all(len(line.rstrip()) <= 60 for line in lines if "$" not in line)
    assert "- export: lacks Converter" in lines and "verify-arm" not in text
    table = json.loads(said(capsys, "--for", "export", "--json", code=1))
    assert table["jobs"]["export"] == {
        "ready": False,
        "missing": [["converter"]],
        "commands": [LONG],
    }
    said(capsys, "--for", "train")


def test_without_a_job_the_exit_code_is_0(capsys, missing):
    missing("converter")
    assert "- export: lacks Converter" in said(capsys)


def test_pictures_and_files_are_tried_for_real():
    parts = trials.try_parts(["pillow", "litert", "python"])
    assert list(parts) == ["python", "litert", "pillow"]
    assert {part.status for part in parts.values()} == {"ok"}
    assert parts["litert"].detail == "ran a file"
    assert parts["pillow"].version == importlib.metadata.version("pillow")


def test_a_library_that_does_not_load_is_broken(monkeypatch):
    def crash(method):
        raise OSError("libjpeg.so.62: cannot open shared object file")

    monkeypatch.setattr(trials, "_asked", crash)
    part = trials.try_parts(["pillow"])["pillow"]
    assert (part.status, part.version) == (
        "broken",
        importlib.metadata.version("pillow"),
    )
    assert "libjpeg" in part.detail and '--no-deps "pillow>=10"' in part.command


def test_an_old_library_is_not_supported(monkeypatch):
    monkeypatch.setattr(trials, "_asked", lambda method: {"version": "9.1"})
    part = trials.try_parts(["pillow"])["pillow"]
    assert (part.status, part.detail) == ("unsupported", "supported: pillow >=10")


def refuse(*_):
    raise MissingDependencyError("Nothing was found.\nIt was looked for everywhere.")


def test_what_was_never_fetched_is_missing(monkeypatch):
    monkeypatch.setattr("penjing.web.npm_packages.find_packages", refuse)
    monkeypatch.setattr("penjing.web.wasm_session.find_packages", refuse)
    monkeypatch.setattr("penjing.web.npm_packages.find_node", lambda: "node")
    part = trials.try_parts(["node"])["node"]
    assert (part.status, part.command) == ("missing", "penjing setup-wasm")
    assert part.detail == "Nothing was found."


@pytest.mark.parametrize("name", ["tflm", "arm"])
def test_nothing_brings_what_exists_for_other_machines_alone(monkeypatch, name):
    monkeypatch.setattr("penjing.runtime.tflm.tflm_runner.has_tflm", lambda: False)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    part = trials.try_parts([name])[name]
    assert (part.status, part.command) == ("missing", "")
    assert "arm64" in part.detail


def test_backends_converter_and_accelerators(monkeypatch):
    def answer(method, name):
        if name == "jax":
            raise ImportError("No module named 'jaxlib'")
        return {
            "keras": "3.15.1",
            "version": importlib.metadata.version(name),
            "accelerators": ["H200"] if name == "torch" else [],
            "conversion": "ValueError: no converter" if name == "tensorflow" else "",
        }

    monkeypatch.setattr(trials, "_asked", answer)
    parts = trials.try_parts(["keras"])
    status = {name: part.status for name, part in parts.items()}
    assert status.pop("gpu") == status.pop("keras") == "ok"
    assert status == {
        "tensorflow": "ok",
        "jax": "broken",
        "torch": "ok",
        "converter": "broken",
    }
    assert parts["gpu"].detail == "H200: PyTorch"
    assert parts["converter"].detail == "ValueError: no converter"


def test_keras_without_a_backend_is_of_no_use(monkeypatch):
    monkeypatch.setattr(trials, "_asked", refuse)
    parts = trials.try_parts(["keras", "converter"])
    assert parts["keras"].status == "broken" and not parts["converter"].works
    assert "tensorflow]" in parts["keras"].command


@pytest.mark.parametrize(("named", "shown"), [("-nightly", "9.9.dev1"), ("-own", "")])
def test_builds_of_other_names_work(monkeypatch, named, shown):
    def version(package):
        if package.endswith(named):
            return "9.9.dev1"
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    part = trials._runtime("x", "X", lambda: "runs", package="ai-edge-litert")
    assert (part.status, part.version) == ("ok", shown)
