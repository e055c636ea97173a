"""What the packaged recipes' accuracies are worth: the dense models, trained as long.

A recipe trains for many epochs, and training on alone makes most networks better. So
for each run in the results of `recipe_accuracy.py` the same baseline is trained on by
the recipe without its methods: as many steps, the same batches, optimizer and rate.
What is known is kept, so it can be interrupted. Run:

    python benchmarks/dense_controls.py
    python benchmarks/dense_controls.py --results smallest --models article --seeds 1,2
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from environment import RESULTS, write_results
from recipe_accuracy import recipe_for
from trained_models import kept, train_baseline

NAME = "dense_controls"


def control(architecture: str, seed: int, recipe: str, known: dict, data) -> dict:
    """Score the dense control of one run, `known` from the results."""
    import penjing
    from penjing.pipeline import run_recipe

    epochs = known["baseline_epochs"]
    baseline = kept(
        f"{architecture}-{seed}-{epochs}",
        lambda: train_baseline(architecture, seed, epochs, data),
    )
    dense = dataclasses.replace(recipe_for(architecture, recipe), methods=())
    trained = run_recipe(baseline, (data.x_train, data.y_train), dense, seed=seed)
    scores = penjing.evaluate(trained, data.x_test, data.y_test)
    return {
        "baseline": penjing.evaluate(baseline, data.x_test, data.y_test)["accuracy"],
        "control": scores["accuracy"],
        "file": known["recipes"][recipe]["accuracy"],
        "epochs": dense.training.epochs,
    }


def summarize(rows: dict) -> dict:
    """Means over the seeds, by results, architecture and recipe."""
    groups: dict = {}
    for key, row in rows.items():
        groups.setdefault(key.rsplit("/", 1)[0], []).append(row)
    return {
        name: {
            "seeds": len(group),
            **{
                what: round(sum(row[what] for row in group) / len(group), 5)
                for what in ("baseline", "control", "file")
            },
        }
        for name, group in groups.items()
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", default="smallest,compression")
    parser.add_argument("--models", default="lenet-300-100,article,cnn,lenet-5")
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    from penjing.data.datasets import load_dataset

    data = load_dataset("fashion-mnist")
    path = RESULTS / f"{NAME}.json"
    rows = json.loads(path.read_text())["runs"] if path.exists() else {}
    for results in options.results.split(","):
        runs = json.loads((RESULTS / f"{results}.json").read_text())["runs"]
        for architecture in options.models.split(","):
            for seed in options.seeds.split(","):
                known = runs.get(f"{architecture}/{seed}")
                for recipe in known["recipes"] if known else ():
                    key = f"{architecture}/{recipe}/{seed}"
                    if key in rows:
                        continue
                    rows[key] = control(architecture, int(seed), recipe, known, data)
                    print(key, json.dumps(rows[key]), flush=True)
                    content = {"summary": summarize(rows), "runs": rows}
                    write_results(NAME, content)


if __name__ == "__main__":
    main()
