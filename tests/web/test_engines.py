"""Node and browsers as programs: found, started, listened to and ended."""

import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.web.wasm_engines import needs_browser

from penjing.errors import CompressionError, MissingDependencyError
from penjing.web import engines, wasm_session
from penjing.web.engines import EngineProcess
from penjing.web.wasm_session import WasmSession

pytestmark = pytest.mark.once
stand_ins = pytest.mark.skipif(sys.platform == "win32", reason="stand-ins are for sh")


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """Puts a program in the place of the browser."""

    def make(text):
        program = tmp_path / "browser"
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv(engines.BROWSER_VARIABLE, str(program))
        return program

    return make


def wait_until(done, seconds=20):
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.02)


@stand_ins
def test_a_browser_gets_the_address_and_a_folder_that_goes(browser, tmp_path):
    """The address, which holds a secret, is not in the list of processes."""
    browser('#!/bin/sh\nprintf "%s\\n" "$@" >&2\nexec sleep 600')
    process = EngineProcess("chromium", "http://127.0.0.1:1/secret/", tmp_path)
    wait_until(lambda: "start.html" in process.last_words())
    assert process.exit_code is None
    assert "secret" not in process.last_words()
    *_, folder, page = process.last_words().splitlines()
    folder = folder.removeprefix("--user-data-dir=")
    assert page == Path(folder, "start.html").as_uri()
    text = Path(folder, "start.html").read_text()
    assert 'replace("http://127.0.0.1:1/secret/" + "worker.html")' in text
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    process.close()
    assert process.exit_code == -9
    assert not subprocess.run(["ls", folder], capture_output=True).stdout


@stand_ins
def test_folders_of_killed_programs_go_with_the_next_one(
    browser, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    browser("#!/bin/sh\nexec sleep 600")
    old = tmp_path / "penjing-wasm-killed"
    old.mkdir()
    (old / ".penjing-lock").touch()
    os.utime(old / ".penjing-lock", (0, 0))
    others = tmp_path / "penjing-wasm-no-lock"
    others.mkdir()
    first = EngineProcess("chromium", "http://127.0.0.1:1/", tmp_path)
    assert not old.exists() and others.exists()
    (running,) = set(tmp_path.glob("penjing-wasm-*/")) - {others}
    os.utime(running / ".penjing-lock", (0, 0))
    EngineProcess("chromium", "http://127.0.0.1:1/", tmp_path).close()
    assert running.exists()
    first.close()
    assert not running.exists()


@stand_ins
def test_what_it_started_ends_with_it(browser, tmp_path):
    note = tmp_path / "child"
    browser(f"#!/bin/sh\nsleep 600 &\necho $! > {note}\nwait")
    process = EngineProcess("chromium", "http://127.0.0.1:1/", tmp_path)
    wait_until(lambda: note.exists() and note.read_text().strip())
    process.close()
    child = note.read_text().strip()

    def is_gone():
        said = subprocess.run(
            ["ps", "-o", "stat=", "-p", child], capture_output=True, text=True
        )
        return said.stdout.strip() in ("", "Z")

    wait_until(is_gone)


@stand_ins
def test_last_words_leave_out_what_is_said_on_good_days(browser, tmp_path):
    lines = ["WARNING: slow", "first", "[1:2:ERROR:dbus/bus.cc(1)] no", *"abcdefgh"]
    browser("#!/bin/sh\n" + "".join(f"echo '{line}' >&2\n" for line in lines))
    process = EngineProcess("chromium", "http://127.0.0.1:1/", tmp_path)
    wait_until(lambda: process.exit_code is not None)
    assert process.last_words().splitlines() == list("abcdefgh")
    process.close()


@stand_ins
@pytest.mark.parametrize(
    ("text", "message"),
    [("\0", "Cannot start .*browser"), ("#!/bin/sh\nexit 3", "exit code 3")],
)
def test_a_browser_that_does_not_start_is_said(
    browser, tmp_path, monkeypatch, text, message
):
    browser(text)
    monkeypatch.setattr(wasm_session, "find_packages", lambda: tmp_path)
    with pytest.raises(CompressionError, match=message):
        WasmSession("chromium")


@needs_browser
def test_a_browser_ends_with_what_it_works_for():
    """Python may be killed, and then nobody else would end it."""
    with WasmSession("chromium") as running:
        handler = running._server._server.RequestHandlerClass
        handler.secret = "another"  # no order comes any more
        running._process._process.wait(timeout=60)


def test_a_missing_browser_is_said(monkeypatch):
    monkeypatch.setenv(engines.BROWSER_VARIABLE, "/no/such/browser")
    with pytest.raises(
        MissingDependencyError, match="'/no/such/browser' was not found"
    ):
        engines.find_browser()
    monkeypatch.delenv(engines.BROWSER_VARIABLE)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(engines, "_PLACES", ())
    with pytest.raises(MissingDependencyError, match="Chromium, Chrome or Edge"):
        engines.find_browser()
