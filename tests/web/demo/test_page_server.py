"""What the page may load, and what else it gets."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from penjing.errors import CompressionError, MissingDependencyError
from penjing.web.demo import page_server
from penjing.web.demo.page_server import serve_page
from penjing.web.npm_packages import FOLDER_VARIABLE

pytestmark = pytest.mark.once


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the demo, beside one of packages."""
    modules = tmp_path / "packages" / "node_modules" / "some"
    modules.mkdir(parents=True)
    (modules / "index.js").write_text("a package")
    monkeypatch.setattr(page_server, "find_packages", lambda: tmp_path / "packages")
    folder = tmp_path / "demo"
    (folder / ".state").mkdir(parents=True)
    for name in ("dense.tflite", "demo.json", "sparse.keras", ".state/manifest.json"):
        (folder / name).write_text(name)
    return folder


def get(server, path):
    with urllib.request.urlopen(server.address + path, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read()


def test_page_models_and_packages_are_served(folder):
    with serve_page(folder) as server:
        for path in ("", "index.html", "?threads=2"):
            kind, content = get(server, path)
            assert kind.startswith("text/html") and b"<html" in content
        assert get(server, "models/dense.tflite")[1] == b"dense.tflite"
        assert get(server, "models/demo.json")[0] == "application/json"
        kind, content = get(server, "packages/some/index.js")
        assert kind.startswith("text/javascript") and content == b"a package"


@pytest.mark.parametrize(
    "path",
    [
        "models/sparse.keras",
        "models/sparse.tflite",  # allowed, and not there
        "models/.state/manifest.json",
        "models/../demo.json",
        "models/",
        "packages/../../demo/demo.json",
        "../page_server.py",
        "none.html",
    ],
)
def test_nothing_else_is_served(folder, path):
    with serve_page(folder) as server:
        with pytest.raises(urllib.error.HTTPError) as said:
            get(server, path)
        said.value.close()
        assert said.value.code == 404


def test_a_port_that_is_taken_is_said(folder):
    with serve_page(folder) as server:
        port = int(server.address.rpartition(":")[2].strip("/"))
        with pytest.raises(CompressionError, match=f"127.0.0.1:{port}.*--port"):
            serve_page(folder, port)


def test_without_packages_nothing_is_served(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(MissingDependencyError, match="penjing setup-wasm"):
        serve_page(tmp_path)
