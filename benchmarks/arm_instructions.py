"""Instructions on an emulated ARM processor: zeros in convolutions and dense layers.

    python benchmarks/arm_instructions.py [--parts mobilenet,dense_layers,topologies]

A MobileNetV1 of 224x224 with random weights, the smallest of each 1x1 convolution set
to zero; four dense layers of 1,024 units, pruned in blocks of 1x4; and the topologies
of the tests. QEMU counts instructions; see `penjing setup-arm`. They are no times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
from environment import RESULTS, write_results
from sparse_dense import pruned_model
from tests.sparse.sparse_topologies import (
    TOPOLOGIES,
    build_topology,
    image_samples,
    sparse_unchecked,
)
from wasm_speed import build_mobilenet

import penjing
from penjing.arm.arm_session import ArmSession
from penjing.errors import CompressionError
from penjing.sparse.dense_twin import dense_twin
from penjing.specializing import specialize

NAME = "arm_instructions"
PROCESSORS = ("cortex-a72", "neoverse-n1")
SPARSITIES = (0.8, 0.9, 0.95)


def counted(paths: dict[str, Path], runs: int) -> dict[str, dict]:
    """Instructions of each file on each processor, and how many times fewer."""
    rows: dict[str, dict] = {
        name: {"bytes": p.stat().st_size} for name, p in paths.items()
    }
    for processor in PROCESSORS:
        report = penjing.count_instructions(
            list(paths.values()), engine=processor, runs=runs
        )
        for name, row in zip(paths, report.files, strict=True):
            rows[name][processor] = {
                "instructions": row.instructions,
                "fewer": row.fewer,
            }
    return rows


def mobilenet(folder: Path, sparsity: float, runs: int) -> dict:
    """Dense, sparse, int8 and dynamic files of one network."""
    paths = {name: folder / f"{name}.tflite" for name in ("dense", "sparse")}
    model = build_mobilenet(224, sparsity)
    penjing.export_litert(model, paths["sparse"], encoding="sparse", runtime="arm")
    paths["dense"].write_bytes(dense_twin(paths["sparse"].read_bytes(), "sparse"))
    proof = penjing.verify(paths["sparse"], "arm", twin=paths["dense"], samples=1)
    if sparsity == 0.9:
        images = np.random.default_rng(1).normal(size=(8, 224, 224, 3)).astype("f4")
        for name in ("int8", "dynamic"):
            paths[name] = folder / f"{name}.tflite"
            data = {"representative_data": images} if name == "int8" else {}
            penjing.export_litert(model, paths[name], name, verify=False, **data)
    return {
        "sparsity": sparsity,
        "largest_relative_difference": proof.relative_difference,
        "files": counted(paths, runs),
    }


def dense_layers(folder: Path, sparsity: float, runs: int) -> dict:
    """Dense layers whose zeros lie in blocks of four inputs."""
    paths = {name: folder / f"{name}.tflite" for name in ("dense", "sparse")}
    model = pruned_model(sparsity, 0)
    penjing.export_litert(model, paths["dense"])
    # The same file as for "arm", which refuses 80 % of zeros: they do not pay there.
    penjing.export_litert(model, paths["sparse"], encoding="sparse", runtime="x86")
    proof = penjing.verify(paths["sparse"], "arm", twin=paths["dense"])
    return {
        "sparsity": sparsity,
        "largest_relative_difference": proof.relative_difference,
        "files": counted(paths, runs),
    }


def topologies(folder: Path, runs: int) -> list[dict]:
    """Sparse files that nobody checked, next to dense ones: right, wrong, refused."""
    rows = []
    paths: dict[str, dict[str, Path]] = {}
    with ArmSession() as session:
        for name, topology in TOPOLOGIES.items():
            keras.utils.clear_session(free_memory=False)
            model = build_topology(name)
            path = penjing.export_litert(model, folder / f"{name}.tflite", verify=False)
            dense = specialize(path.read_bytes(), where=name)
            contents = (dense, sparse_unchecked(dense))
            row = {"name": name, "in_webassembly": topology.outcome}
            try:
                outputs = [run(session, c, image_samples(model, 1)) for c in contents]
            except CompressionError as error:
                rows.append({**row, "raises": str(error)[:120]})
                continue
            pairs = list(zip(*outputs, strict=True))
            scale = max(float(np.abs(one).max()) for one, _ in pairs)
            worst = max(float(np.abs(one - other).max()) for one, other in pairs)
            rows.append({**row, "relative_difference": worst / scale})
            if topology.outcome != "wrong":
                for kind, content in zip(("dense", "sparse"), contents, strict=True):
                    file = folder / f"{name}-{kind}.tflite"
                    file.write_bytes(content)
                    paths.setdefault(name, {})[kind] = file
    files = [path for pair in paths.values() for path in pair.values()]
    report = penjing.count_instructions(files, runs=runs)
    counts = {row.path: row.instructions for row in report.files}
    for row in rows:
        if row["name"] in paths:
            pair = paths[row["name"]]
            row["fewer"] = counts[str(pair["dense"])] / counts[str(pair["sparse"])]
    return rows


def run(session: ArmSession, content: bytes, samples: np.ndarray) -> list[np.ndarray]:
    model = session.load(content, "a topology")
    model.feed([samples])
    outputs = model.run()
    model.close()
    return outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--parts", default="mobilenet,dense_layers,topologies")
    options = parser.parse_args()
    known = {"mobilenet": mobilenet, "dense_layers": dense_layers}
    results: dict[str, list] = {}
    stored = RESULTS / f"{NAME}.json"
    if stored.exists():
        found = json.loads(stored.read_text())
        results = {
            part: found[part] for part in (*known, "topologies") if part in found
        }
    for part in options.parts.split(","):
        with tempfile.TemporaryDirectory() as folder:
            if part == "topologies":
                rows = topologies(Path(folder), options.runs)
            else:
                rows = [
                    known[part](Path(folder), sparsity, options.runs)
                    for sparsity in SPARSITIES
                ]
        print(part, rows, flush=True)
        results[part] = rows
        write_results(NAME, {"image_size": 224, **results})


if __name__ == "__main__":
    main()
