"""Fetching QEMU and Python for ARM, with mirrors and a pip that stand in."""

import json
import re
import sys
import threading

import pytest
from tests.arm.debian_packages import Mirror, deb, row

from penjing.arm import arm_packages, arm_setup, pinned_files
from penjing.arm.arm_packages import find_arm
from penjing.arm.arm_setup import setup_arm
from penjing.errors import CompressionError, MissingDependencyError

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="ARM is emulated on Linux"),
]

QEMU = deb({"usr/bin/qemu-aarch64": b"an emulator", "usr/share/doc/x": b"no"})
PYTHON = deb({"usr/bin/python3.13": b"a Python", "usr/lib/python3.13/os.py": b""})
WHEEL = b"PK\x05\x06" + bytes(18)  # an archive without files
# Stands in for pip: it writes the wheel that it was asked for, where it was told.
PIP = (
    "import os, sys; (to,) = (a[7:] for a in sys.argv if a.startswith('--dest=')); "
    "open(to + '/numpy-1-cp313.whl', 'wb').write({!r})"
)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    rows = {
        "debian": [
            row("pool/qemu-user_10_amd64.deb", QEMU, ["usr/bin/"]),
            row("pool/python3.13_arm64.deb", PYTHON, ["usr/bin/", "usr/lib/"]),
        ],
        "wheels": [row("numpy-1-cp313.whl", WHEEL, ["n"], requirement="numpy==1")],
    }
    packages = tmp_path / "packages.json"
    content = {**pinned_files.pinned(), **rows}
    packages.write_text(json.dumps(content))
    for module in (pinned_files, arm_packages, arm_setup):
        monkeypatch.setattr(module, "PACKAGES", packages)
    pip = (sys.executable, "-c", PIP.format(WHEEL))
    monkeypatch.setattr(pinned_files, "_PIP", pip)
    monkeypatch.setattr(pinned_files, "_MIRRORS", ())
    monkeypatch.setattr(pinned_files, "_SNAPSHOT", "http://127.0.0.1:1/{}")
    monkeypatch.setattr(arm_setup, "ArmSession", _Session)
    monkeypatch.setattr(arm_packages.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PENJING_ARM_DIR", str(tmp_path / "arm"))
    _Session.started = 0
    running = Mirror(
        {
            item["path"]: data
            for item, data in zip(rows["debian"], (QEMU, PYTHON), strict=True)
        }
    )
    monkeypatch.setenv("PENJING_DEBIAN_MIRROR", running.address)
    yield running
    running.close()


class _Session:
    """Stands in for the emulator, which the packages here have not."""

    started = 0

    def __init__(self, folder):
        assert folder.qemu.read_bytes() == b"an emulator"
        assert folder.python.read_bytes() == b"a Python"
        type(self).started += 1

    def close(self):
        pass


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_file_has_a_digest_and_a_version_that_can_be_found_again():
    content = json.loads(pinned_files.PACKAGES.read_text())
    for item in content["debian"] + content["wheels"]:
        assert re.fullmatch("[0-9a-f]{64}", item["sha256"])
        assert item["bytes"] > 0 and item["keep"]
        assert "://" not in item["path"]  # any mirror may serve them
    assert re.fullmatch("[0-9]{8}T000000Z", content["snapshot"])
    assert any(
        item["requirement"] == f"ai-edge-litert=={content['litert']}"
        for item in content["wheels"]
    )


def test_all_is_fetched_and_tried_once(mirror, tmp_path):
    told = []
    first = setup_arm(progress=told.append)
    assert (first.fetched, first.folder) == (True, tmp_path / "arm")
    assert first.bytes > len(b"an emulator")
    assert first.versions["LiteRT"] == pinned_files.pinned()["litert"]
    assert "Fetching qemu-user (MiB)" in {message.stage for message in told}
    assert find_arm().folder == tmp_path / "arm"
    assert not setup_arm().fetched
    assert _Session.started == 1
    assert len(mirror.asked) == 2
    assert left(tmp_path) == ["arm", "packages.json"]


def test_of_two_at_once_one_fetches_and_the_other_waits(mirror, tmp_path, monkeypatch):
    started, may_end, found = threading.Event(), threading.Event(), []

    class Slow(_Session):
        def close(self):
            started.set()
            assert may_end.wait(20)

    monkeypatch.setattr(arm_setup, "ArmSession", Slow)
    threads = [
        threading.Thread(target=lambda: found.append(setup_arm(progress=False)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
        assert started.wait(20)
    threads[1].join(0.2)  # it waits, and harms nothing
    may_end.set()
    for thread in threads:
        thread.join(20)
    assert sorted(one.fetched for one in found) == [False, True]
    assert Slow.started == 1 and len(mirror.asked) == 2
    assert find_arm() and left(tmp_path) == ["arm", "packages.json"]


def test_a_folder_that_cannot_be_made_is_said(mirror, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CompressionError, match="Cannot write .* another folder"):
        setup_arm(tmp_path / "file" / "arm", progress=False)


def test_a_file_that_stopped_in_the_middle_is_gone_on_with(mirror, tmp_path):
    mirror.most = len(QEMU) - 10
    with pytest.raises(CompressionError, match="ended after .* of .* bytes") as said:
        setup_arm(progress=False)
    assert "Cannot fetch qemu-user" in str(said.value)
    assert not (tmp_path / "arm").exists()
    mirror.most = None
    assert setup_arm(progress=False).fetched
    assert mirror.asked[1] == (
        "/pool/qemu-user_10_amd64.deb",
        f"bytes={mirror_most()}-",
    )


def mirror_most():
    return len(QEMU) - 10


def test_what_was_fetched_before_a_failure_is_not_fetched_again(mirror, tmp_path):
    (path,) = (path for path in mirror.files if "python" in path)
    content = mirror.files.pop(path)
    with pytest.raises(CompressionError, match="Cannot fetch python3.13.*\n.*404"):
        setup_arm(progress=False)
    mirror.files[path] = content
    setup_arm(progress=False)
    assert [path for path, _ in mirror.asked].count("/pool/qemu-user_10_amd64.deb") == 1


def test_another_content_is_one_clear_error_and_leaves_nothing(mirror, tmp_path):
    path = "pool/qemu-user_10_amd64.deb"
    mirror.files[path] = bytes(len(QEMU))
    with pytest.raises(CompressionError, match="has not the content") as said:
        setup_arm(progress=False)
    assert "another SHA-256" in str(said.value)
    assert "PENJING_DEBIAN_MIRROR" in str(said.value)
    assert left(tmp_path) == [".arm-downloads", "packages.json"]
    assert left(tmp_path / ".arm-downloads") == ["lock"]


def test_more_than_the_size_of_a_file_is_not_read(mirror):
    path = "pool/qemu-user_10_amd64.deb"
    mirror.files[path] = QEMU + bytes(10_000_000)
    assert setup_arm(progress=False).fetched


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('ERROR: No matching distribution')", "No matching dis"),
        ("pass", "pip ended without an error, but numpy-1-cp313.whl is not there"),
        (PIP.format(b"other"), "is not there with the content"),
    ],
)
def test_what_pip_does_not_get_is_said(mirror, monkeypatch, program, message):
    monkeypatch.setattr(pinned_files, "_PIP", (sys.executable, "-c", program))
    with pytest.raises(CompressionError, match=message):
        setup_arm(progress=False)


def test_a_missing_pip_is_said(mirror, monkeypatch):
    monkeypatch.setattr(pinned_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs pip.*ensurepip"):
        setup_arm(progress=False)


def test_a_damaged_file_and_an_older_version_are_fetched_anew(mirror, tmp_path):
    folder = setup_arm(progress=False).folder
    arm_packages.ArmFolder(folder).python.write_bytes(b"a Pythoo")
    assert setup_arm(progress=False).fetched
    (folder / "packages.json").write_text('{"name": "penjing-arm", "older": 1}')
    with pytest.raises(MissingDependencyError, match="penjing setup-arm"):
        find_arm()
    assert setup_arm(progress=False).fetched
    assert find_arm()


def test_a_folder_with_other_things_is_left_alone(mirror, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(CompressionError, match="holds something else"):
        setup_arm(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_start_that_fails_leaves_the_downloads_and_no_folder(
    mirror, tmp_path, monkeypatch
):
    def fails(folder):
        raise CompressionError("LiteRT on ARM does not start: no.")

    monkeypatch.setattr(arm_setup, "ArmSession", fails)
    with pytest.raises(CompressionError, match="does not start"):
        setup_arm(progress=False)
    assert left(tmp_path) == [".arm-downloads", "packages.json"]


@pytest.mark.parametrize(
    ("system", "machine", "message"),
    [
        ("darwin", "arm64", "this is darwin on arm64. This processor is ARM itself"),
        ("linux", "aarch64", "linux on aarch64. This processor is ARM itself"),
        ("win32", "AMD64", "this is win32 on amd64. Use such a machine, a container"),
    ],
)
@pytest.mark.parametrize("function", [setup_arm, find_arm])
def test_other_machines_are_refused(monkeypatch, system, machine, message, function):
    monkeypatch.setattr(arm_packages.sys, "platform", system)
    monkeypatch.setattr(arm_packages.platform, "machine", lambda: machine)
    with pytest.raises(MissingDependencyError, match=message):
        function()


def test_what_runs_files_says_how_to_get_it(mirror):
    with pytest.raises(MissingDependencyError, match="once with: penjing setup-arm"):
        find_arm()
