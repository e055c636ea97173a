"""Packages unpacked without dpkg."""

import os
import shutil
import subprocess

import pytest
from tests.arm.debian_packages import deb

from penjing.arm.unpacking import unpack_deb
from penjing.errors import CompressionError

pytestmark = pytest.mark.once
FILES = {"usr/bin/a": b"A", "usr/lib/b.so.1": b"bb", "usr/share/doc/c": b"c"}
LINKS = {"usr/lib/b.so": "b.so.1", "usr/lib/out": "/etc/passwd"}


def unpacked(folder):
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()
    )


def test_what_is_kept_is_unpacked_with_rights_and_links(tmp_path):
    package = tmp_path / "a.deb"
    package.write_bytes(deb(FILES, LINKS))
    unpack_deb(package, ["usr/bin/", "usr/lib/"], tmp_path / "to")
    assert unpacked(tmp_path / "to") == ["usr/bin/a", "usr/lib/b.so", "usr/lib/b.so.1"]
    assert os.access(tmp_path / "to/usr/bin/a", os.X_OK)
    assert (tmp_path / "to/usr/lib/b.so").read_bytes() == b"bb"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="there is no dpkg-deb")
def test_packages_of_dpkg_are_read(tmp_path):
    source = tmp_path / "source"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN/control").write_text(
        "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\n"
        "Description: a\n"
    )
    (source / "usr/lib").mkdir(parents=True)
    (source / "usr/lib/a").write_bytes(b"content")
    package = tmp_path / "a.deb"
    subprocess.run(
        ["dpkg-deb", "-Zxz", "--build", source, package],
        check=True,
        capture_output=True,
    )
    unpack_deb(package, ["usr/"], tmp_path / "to")
    assert (tmp_path / "to/usr/lib/a").read_bytes() == b"content"


@pytest.mark.parametrize(
    "content",
    [b"no package", b"!<arch>\n", deb(FILES)[:230], b"!<arch>\n" + b"x" * 60],
)
def test_what_is_no_package_is_refused(tmp_path, content):
    package = tmp_path / "a.deb"
    package.write_bytes(content)
    with pytest.raises(CompressionError, match="Cannot unpack a.deb"):
        unpack_deb(package, ["usr/"], tmp_path / "to")
