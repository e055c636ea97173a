"""The search of `budget.py` against the packaged recipes, on the same tasks.

Each recipe compresses the baseline that the search had, and its file is scored on
validation and on test data. The best recipe is the smallest file that keeps, on
validation data, the bound of the search, whose row must be in its results; where none
keeps it, there is none. Each takes the time that its epochs take. Runs are kept in
`out/benchmarks/budget-recipes`. Run:

    python benchmarks/budget_recipes.py
    python benchmarks/budget_recipes.py --tasks digits --recipes smallest
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from environment import RESULTS, write_results
from trained_models import MODELS

import penjing
from budget import TASKS, baseline_of, predictions_of, right

NAME = "budget_recipes"
RECIPES = ("smallest", "channels-smallest", "default")


def row_of(task: str, recipe: str, seed: int) -> dict[str, Any]:
    make, _, metric, _ = TASKS[task]
    data = make()
    model = baseline_of(task, data)
    out = MODELS / "budget-recipes" / f"{task}-{recipe}-{seed}"
    start = time.perf_counter()
    report = penjing.compress(
        model, data, recipe=recipe, out=out, seed=seed, progress=False
    )
    seconds = round(time.perf_counter() - start)
    file = out / report.result
    return {
        "seconds": seconds,
        "gzip": report.file(report.result).gzip,
        "raw": report.file(report.result).raw,
        "ratio": report.ratio,
        **{part: _score(file, data[part], metric) for part in ("validation", "test")},
    }


def _score(file, part, metric: str) -> float:
    x, y = part
    return float(abs(right(predictions_of(file, x), y, metric).mean()))


def verdict(metric: str, search: dict[str, Any], tried: dict[str, Any]) -> dict:
    """The best recipe that keeps the bound on validation data, and who is smaller."""
    sign = 1 if metric == "accuracy" else -1
    kept_bound = {
        name: row
        for name, row in tried.items()
        if sign * row["validation"] >= sign * search["lowest"]
    }
    best = min(kept_bound, key=lambda name: kept_bound[name]["gzip"], default=None)
    return {
        "search": {key: search[key] for key in ("gzip", "file", "seconds")},
        "best_recipe": best,
        "search_is_smaller": search["met_on_validation"]
        and (best is None or search["gzip"] < kept_bound[best]["gzip"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", help="those of the search, where not given")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    searches = json.loads((RESULTS / "budget.json").read_text())["tasks"]
    path = RESULTS / f"{NAME}.json"
    known = json.loads(path.read_text())["tasks"] if path.exists() else {}
    for task in options.tasks.split(",") if options.tasks else searches:
        row = known.setdefault(task, {"recipes": {}})
        for recipe in options.recipes.split(","):
            if recipe not in row["recipes"]:
                row["recipes"][recipe] = row_of(task, recipe, options.seed)
                print(task, recipe, json.dumps(row["recipes"][recipe]), flush=True)
        row |= verdict(TASKS[task][2], searches[task], row["recipes"])
        smaller = sum(task["search_is_smaller"] for task in known.values())
        summary = {"tasks": len(known), "search_is_smaller": smaller}
        write_results(NAME, {"summary": summary, "tasks": known})


if __name__ == "__main__":
    main()
