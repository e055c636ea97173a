"""Files are written whole or not at all, and failures say what to do."""

import errno
import os
import re
import resource
import stat
from pathlib import Path

import pytest

from penjing.errors import CompressionError, FileFormatError
from penjing.files import atomic_path, read_bytes, write_bytes, write_text

pytestmark = pytest.mark.once


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_written_file_is_there_and_nothing_else(tmp_path):
    assert write_bytes(tmp_path / "a.bin", b"\0\1") == tmp_path / "a.bin"
    assert write_text(str(tmp_path / "b.txt"), "Ω") == tmp_path / "b.txt"
    assert content(tmp_path) == {"a.bin": b"\0\1", "b.txt": "Ω".encode()}


def test_a_file_is_replaced_at_the_end_of_the_block_only(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".a-")
    assert content(tmp_path) == {"a.txt": b"new"}


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyError, match="mine"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyError("mine")
    assert content(tmp_path) == {"a.txt": b"old"}


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("model.weights.h5", ".weights.h5"),
        ("model.keras", ".keras"),
        ("plain", ""),
        (".hidden", ".hidden"),
        ("x" * 240 + ".tflite", ".tflite"),
    ],
)
def test_the_temporary_name_ends_as_the_target_does(tmp_path, name, ending):
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.name.endswith(ending)
        assert temporary.name != name
        temporary.write_bytes(b"1")
    assert content(tmp_path) == {name: b"1"}


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_mode_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "a", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_a_relative_path_survives_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with atomic_path("a.txt") as temporary:
        assert temporary.is_absolute()
        temporary.write_text("1")
    assert content(tmp_path) == {"a.txt": b"1"}


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        CompressionError, match=rf"the folder {tmp_path}/none does not exist. Create it"
    ):
        write_bytes(tmp_path / "none" / "a.txt", b"1")
    assert content(tmp_path) == {}


def test_a_folder_is_refused_as_a_file(tmp_path):
    with pytest.raises(CompressionError, match="it is a folder. Add a file name"):
        write_bytes(tmp_path, b"1")


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_an_unwritable_folder_says_what_to_check(
    tmp_path, monkeypatch, relative, number
):
    def refuse(path, *args, **kwargs):
        raise OSError(number, os.strerror(number), os.fspath(path))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    path = Path("a.txt") if relative else tmp_path / "a.txt"
    with pytest.raises(
        CompressionError,
        match=f"Cannot write .*a.txt: {os.strerror(number)}. Check the permissions",
    ):
        write_bytes(path, b"1")
    assert content(tmp_path) == {}


def test_a_folder_that_may_not_be_searched_is_reported(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(self))

    target = tmp_path / "a.txt"
    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(CompressionError, match="a.txt: Permission denied"):
        write_bytes(target, b"1")


def test_a_full_disk_leaves_nothing(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with (
        pytest.raises(CompressionError, match="No space left on device.*the space"),
        atomic_path(target) as temporary,
    ):
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"1" * 10_000)
    assert content(tmp_path) == {"a.txt": b"old"}


def test_a_file_that_grows_too_large_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(CompressionError, match="File too large"):
            write_bytes(tmp_path / "a.txt", b"1" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(tmp_path) == {}


def test_an_error_that_is_none_of_writing_stays_what_it_is(tmp_path):
    elsewhere = tmp_path / "other" / "missing.txt"
    with (
        pytest.raises(FileNotFoundError, match=re.escape(str(elsewhere))),
        atomic_path(tmp_path / "a.txt"),
    ):
        elsewhere.read_text()
    with pytest.raises(TimeoutError, match="slow"), atomic_path(tmp_path / "a.txt"):
        raise TimeoutError("slow")
    assert content(tmp_path) == {}


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0\1\2")
    assert read_bytes(str(tmp_path / "a.bin"), most=3) == b"\0\1\2"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.bin", "There is no file .*none.bin. Check the path"),
        ("", "is a folder. Give the path of a file"),
        ("empty.bin", "empty.bin is empty. Write it again"),
        (
            "large.bin",
            "large.bin has 1,001 bytes, more than the 1,000 that",
        ),
    ],
)
def test_what_is_no_readable_file_is_refused(tmp_path, name, message):
    (tmp_path / "empty.bin").touch()
    (tmp_path / "large.bin").write_bytes(bytes(1001))
    with pytest.raises(FileFormatError, match=message):
        read_bytes(tmp_path / name, most=1000)


def test_a_file_that_the_system_refuses_to_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FileFormatError, match="Cannot read .*a.bin: Permission denied"):
        read_bytes(path)
