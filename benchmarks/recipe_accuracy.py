"""Accuracy and size of what the recipes make, on the full Fashion-MNIST.

For every model and seed a baseline is trained, then compressed by each recipe. Sizes
and accuracies are those of the files: the float `.h5` without optimizer and the
quantized `.tflite`, each in a zip archive, the latter also gzipped; accuracies on the
10,000 test images. Runs that are in the results file already are not repeated, and
trained models are kept in `out/`, so it can be interrupted, and measured anew where the
export changed: remove the results file. Run:

    python benchmarks/recipe_accuracy.py
    python benchmarks/recipe_accuracy.py --name smallest --recipes smallest \\
        --models article,lenet-300-100,cnn,lenet-5 --baseline-epochs 10
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import tempfile
from pathlib import Path

from environment import RESULTS, write_results
from trained_models import kept, train_baseline

from penjing.pipeline.runs.run_state import digest_of

BASELINE_EPOCHS = {"article": 4, "lenet-300-100": 5, "cnn": 3, "lenet-5": 3}
# Epochs in place of the recipe's, where fewer are enough.
FEWER_EPOCHS = {"cnn": {"default": 4}}
NAME = "compression"


def run(architecture: str, seed: int, recipes: list[str], baseline_epochs: int) -> dict:
    import penjing
    from penjing.data.datasets import load_dataset
    from penjing.pipeline.runs.model_writing import write_h5

    data = load_dataset("fashion-mnist")
    name = f"{architecture}-{seed}-{baseline_epochs}"
    baseline = kept(
        name, lambda: train_baseline(architecture, seed, baseline_epochs, data)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "baseline.h5"
        write_h5(baseline, path)
        float_file = penjing.export_litert(baseline, Path(folder) / "baseline.tflite")
        outcome = {
            "parameters": baseline.count_params(),
            "baseline_epochs": baseline_epochs,
            "baseline_tflite_raw": penjing.measure_size(float_file).raw,
            "accuracy": penjing.evaluate(baseline, data.x_test, data.y_test)[
                "accuracy"
            ],
            "h5_zip": penjing.measure_size(path).zip,
            "recipes": {},
        }
        for recipe in recipes:
            chosen = recipe_for(architecture, recipe)
            small = kept(
                f"{name}-{recipe}-{digest_of([chosen.to_dict()])[:8]}",
                functools.partial(compressed, baseline, chosen, seed, data),
            )
            outcome["recipes"][recipe] = measure(
                small, chosen, data, Path(folder), outcome["h5_zip"]
            )
    return outcome


def recipe_for(architecture: str, name: str):
    """A packaged recipe, with fewer epochs where those are enough."""
    from penjing.pipeline.recipe_files import load_recipe

    recipe = load_recipe(name)
    epochs = FEWER_EPOCHS.get(architecture, {}).get(name)
    if epochs is None:
        return recipe
    training = dataclasses.replace(recipe.training, epochs=epochs, minimum_steps=0)
    return dataclasses.replace(recipe, training=training)


def compressed(baseline, recipe, seed: int, data):
    import penjing
    from penjing.pipeline import run_recipe

    training = (data.x_train, data.y_train)
    return penjing.strip(run_recipe(baseline, training, recipe, seed=seed))


def measure(small, recipe, data, folder: Path, baseline_zip: int) -> dict:
    import penjing

    path = folder / f"{recipe.name}.tflite"
    penjing.export_litert(
        small,
        path,
        recipe.export.quantizations[0],
        representative_data=data.x_train[:500],
        finish=recipe.export.finish,
    )
    size = penjing.measure_size(path)
    accuracy = penjing.evaluate(path, data.x_test, data.y_test)["accuracy"]
    return {
        "epochs": recipe.training.epochs,
        "accuracy": accuracy,
        "sparsity": penjing.sparsity_report(small).sparsity,
        "tflite_raw": size.raw,
        "tflite_zip": size.zip,
        "tflite_gzip": size.gzip,
        "ratio": baseline_zip / size.zip,
        "gzip_ratio": baseline_zip / size.gzip,
    }


def summarize(runs: dict) -> dict:
    summary: dict = {}
    for architecture in dict.fromkeys(key.split("/")[0] for key in runs):
        outcomes = [
            value for key, value in runs.items() if key.startswith(architecture + "/")
        ]
        row = {"baseline_accuracy": _mean(o["accuracy"] for o in outcomes)}
        for recipe in outcomes[0]["recipes"]:
            results = [o["recipes"][recipe] for o in outcomes if recipe in o["recipes"]]
            row[recipe] = {
                "seeds": len(results),
                "accuracy": _mean(r["accuracy"] for r in results),
                "ratio": _mean(r["ratio"] for r in results),
                "lowest_ratio": min(r["ratio"] for r in results),
                "raw": _mean(r["tflite_raw"] for r in results),
            }
            if all("gzip_ratio" in r for r in results):
                row[recipe]["gzip_ratio"] = _mean(r["gzip_ratio"] for r in results)
        summary[architecture] = row
    return summary


def _mean(values) -> float:
    return round(statistics.mean(values), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="article,lenet-300-100,cnn")
    parser.add_argument("--recipes", default="article,default")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--name", default=NAME, help="of the results file")
    parser.add_argument("--baseline-epochs", type=int)
    options = parser.parse_args()
    path = RESULTS / f"{options.name}.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    for architecture in options.models.split(","):
        for seed in options.seeds.split(","):
            key = f"{architecture}/{seed}"
            if key in runs:
                continue
            epochs = options.baseline_epochs or BASELINE_EPOCHS[architecture]
            recipes = options.recipes.split(",")
            runs[key] = run(architecture, int(seed), recipes, epochs)
            print(key, json.dumps(runs[key]), flush=True)
            content = {"summary": summarize(runs), "runs": runs}
            write_results(options.name, content)
    print(json.dumps(summarize(runs), indent=1))


if __name__ == "__main__":
    main()
