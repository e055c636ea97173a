"""Fetching the npm packages, with programs that stand in for Node and npm."""

import base64
import json
import os
import sys

import pytest

from penjing.errors import CompressionError, MissingDependencyError
from penjing.web import npm_packages
from penjing.web.npm_packages import find_node, find_packages, setup_wasm

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are for sh"),
]

FETCHES = """
test "$1" = ci || exit 9
case "$*" in *--ignore-scripts*) ;; *) exit 9 ;; esac
for name in core wasm-utils; do
  mkdir -p "node_modules/@litertjs/$name/dist" "node_modules/@litertjs/$name/wasm"
  echo "{\\"version\\": \\"$VERSION\\"}" > "node_modules/@litertjs/$name/package.json"
  echo code > "node_modules/@litertjs/$name/dist/index.js"
done
for name in compat_internal internal threaded_internal; do
  echo code > "node_modules/@litertjs/core/wasm/litert_wasm_$name.wasm"
  echo code > "node_modules/@litertjs/core/wasm/litert_wasm_$name.js"
done
echo fetched >> "$0.log"
"""
FAILS = """
echo "npm error code ENOTFOUND" >&2
echo "npm error network request to https://example.org failed" >&2
exit 1
"""


class Programs:
    """Stand-ins for Node and npm, the only programs there are."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setattr(npm_packages, "_find_program", self.find)
        monkeypatch.setenv("VERSION", npm_packages.pinned_versions()["core"])

    def find(self, name):
        path = self.folder / name
        return str(path) if path.exists() else None

    def add(self, name, text):
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)

    def fetches(self):
        log = self.folder / "npm.log"
        return log.read_text().count("fetched") if log.exists() else 0


@pytest.fixture
def programs(tmp_path, monkeypatch):
    chosen = Programs(tmp_path / "programs", monkeypatch)
    chosen.add("node", "echo v20.1.0")
    chosen.add("npm", FETCHES)
    monkeypatch.setenv("PENJING_WASM_DIR", str(tmp_path / "wasm"))
    return chosen


def test_versions_are_exact_and_every_package_has_a_digest():
    wanted = json.loads((npm_packages.RUNTIME / "package.json").read_text())
    lock = json.loads((npm_packages.RUNTIME / "package-lock.json").read_text())
    packages = {path: item for path, item in lock["packages"].items() if path}
    assert lock["packages"][""]["dependencies"] == wanted["dependencies"]
    assert {
        path.removeprefix("node_modules/"): item["version"]
        for path, item in packages.items()
    } == wanted["dependencies"]
    for item in packages.values():
        kind, _, digest = item["integrity"].partition("-")
        assert (kind, len(base64.b64decode(digest))) == ("sha512", 64)
        assert "resolved" not in item  # any registry may serve them


def test_packages_are_fetched_once(programs, tmp_path):
    first = setup_wasm()
    assert (first.fetched, first.folder) == (True, tmp_path / "wasm")
    assert first.bytes > 0
    assert first.versions["@litertjs/core"] == npm_packages.pinned_versions()["core"]
    assert find_packages() == tmp_path / "wasm"
    assert not setup_wasm().fetched
    assert programs.fetches() == 1
    assert [path.name for path in tmp_path.glob("*wasm*")] == ["wasm"]


def test_what_a_killed_call_left_goes_with_the_next_one(programs, tmp_path):
    old, running = tmp_path / ".wasm-0123abcd", tmp_path / ".wasm-4567cdef"
    other = tmp_path / ".wasm-of-somebody"
    for folder in (old, running, other):
        folder.mkdir()
    for folder in (old, other):
        os.utime(folder, (0, 0))
    setup_wasm()
    assert not old.exists() and running.exists() and other.exists()


def test_packages_of_other_versions_are_replaced(programs, tmp_path, monkeypatch):
    setup_wasm()
    package = "node_modules/@litertjs/core/package.json"
    (tmp_path / "wasm" / package).write_text('{"version": "0.1.0"}')
    with pytest.raises(MissingDependencyError, match="penjing setup-wasm"):
        find_packages()
    assert setup_wasm().fetched
    assert find_packages()


def test_damaged_packages_are_fetched_anew(programs, tmp_path):
    setup_wasm()
    damaged = tmp_path / "wasm/node_modules/@litertjs/core/wasm/litert_wasm_internal.js"
    damaged.write_text("co")
    assert setup_wasm().fetched
    assert damaged.read_text() == "code\n"
    assert not setup_wasm().fetched


@pytest.mark.parametrize(
    ("npm", "message"),
    [
        (
            FAILS,
            r"could not fetch LiteRT.js \(exit code 1\):\nnpm error code ENOTFOUND",
        ),
        ("exit 0", "files of the packages are missing"),
        (FETCHES.replace("$VERSION", "9.9.9"), "files of the packages are missing"),
    ],
)
def test_a_failure_leaves_nothing(programs, tmp_path, npm, message):
    programs.add("npm", npm)
    with pytest.raises(CompressionError, match=message):
        setup_wasm()
    assert not list(tmp_path.glob("*wasm*"))
    assert not list(tmp_path.glob(".wasm*"))


def test_a_folder_with_other_things_is_left_alone(programs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(CompressionError, match="holds something else"):
        setup_wasm(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (None, "needs Node 18 or newer, which was not found.*nodejs.org"),
        ("echo v16.4.0", "says that it is v16.4.0"),
        ("exit 1", "says that it is no Node"),
    ],
)
def test_a_missing_or_old_node_is_said(programs, node, message):
    (programs.folder / "node").unlink()
    if node is not None:
        programs.add("node", node)
    for function in (find_node, setup_wasm):
        with pytest.raises(MissingDependencyError, match=message):
            function()


def test_a_node_for_another_machine_is_said(programs):
    (programs.folder / "node").write_bytes(b"\0")
    with pytest.raises(MissingDependencyError, match="says that it is no Node"):
        find_node()


def test_a_missing_npm_is_said(programs):
    (programs.folder / "npm").unlink()
    with pytest.raises(MissingDependencyError, match="Node is there, but npm"):
        setup_wasm()


def test_what_runs_files_says_how_to_get_the_packages(programs):
    with pytest.raises(MissingDependencyError, match="once with: penjing setup-wasm"):
        find_packages()
