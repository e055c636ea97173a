"""What zeros and levels buy on Arm's Ethos-U, by the estimates of its compiler Vela.

    python benchmarks/ethos_estimates.py
    python benchmarks/ethos_estimates.py recipe=out/model.tflite

The `cnn` with random weights, exported in int8; in its file the smallest weights of a
tensor are set to zero, and the others put on few levels. No data and no training: the
estimates depend on the weights alone. Further int8 files of the same network, as those
of the recipe `micro` before they are packed, are compared with the plain one too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from environment import write_results

import penjing
from penjing.data.architectures import build_architecture
from penjing.runtime.ethos_u import VelaEstimate, estimate_by_vela
from penjing.sparse.ethos_estimate import is_weight
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.tensors import all_tensors, set_values, values_of

NETWORK = "cnn"
PROCESSOR = "ethos-u55-128"
CASES = ((0.5, None), (0.8, None), (0.9, None), (0.9, 15), (0.9, 7), (0.95, 7))


def changed(content: bytes, sparsity: float, levels: int | None) -> bytes:
    """The file with zeros in its weights, and the others on levels with one step."""

    def change(model) -> None:
        for tensor in all_tensors(model):
            if is_weight(model, tensor):
                values = values_of(model, tensor).astype("float64")
                size = np.abs(values)
                if levels is not None:
                    step = 254 / (levels - 1)
                    values = np.rint(np.rint(values / step) * step)
                values[size <= np.quantile(size, sparsity)] = 0
                set_values(model, tensor, values.astype("int8"))

    file = EditedFile(content, NETWORK)
    file.edit(change)
    return file.content


def row_of(found: VelaEstimate, plain: VelaEstimate) -> dict:
    return {
        **found.to_dict(),
        "flash_ratio": round(plain.flash / found.flash, 2),
        "cycle_ratio": round(plain.cycles / found.cycles, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", metavar="NAME=FILE")
    options = parser.parse_args()
    others = dict(text.split("=", 1) for text in options.files)
    model = build_architecture(NETWORK, (28, 28, 1), seed=0)
    images = np.random.default_rng(0).random((32, 28, 28, 1)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        path = penjing.export_litert(
            model,
            Path(folder) / "plain.tflite",
            "int8",
            representative_data=images,
            verify=False,
        )
        plain = path.read_bytes()
    contents = {"plain": plain}
    for sparsity, levels in CASES:
        name = f"{sparsity:.0%} zeros" + (f", {levels} levels" if levels else "")
        contents[name] = changed(plain, sparsity, levels)
    for name, file in others.items():
        contents[name] = Path(file).read_bytes()
    found = estimate_by_vela(list(contents.values()), NETWORK, PROCESSOR)
    rows = {
        name: row_of(estimate, found[0])
        for name, estimate in zip(contents, found, strict=True)
    }
    for name, row in rows.items():
        print(name, row, flush=True)
    write_results("ethos_estimates", {"network": NETWORK, "rows": rows})


if __name__ == "__main__":
    main()
