"""What removed channels buy: milliseconds, bytes and accuracy of the files.

Baselines are trained on the full Fashion-MNIST and cut by `prune_channels`. The `cnn`
becomes an int8 file and a file of few levels in the fewest bytes; `resnet-20` and
`mobilenet` lose half of their multiply-accumulates or more, the latter half of its time
too. Accuracy is that of the `.tflite` files on the 10,000 test images, times are ratios
from rounds in which the files take turns, on one thread. Trained models are kept in
`out/benchmarks`. Run:

    python benchmarks/channels.py
    python benchmarks/channels.py --models resnet-20 --only-train
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
from pathlib import Path

from environment import RESULTS, write_results
from trained_models import behind_enlarging, enlarged, kept, train_baseline

from penjing.pipeline.runs.run_state import digest_of

BASELINE_EPOCHS = {"cnn": 10, "resnet-20": 6, "mobilenet": 8}
SEEDS = (0, 1, 2)
TARGETS: dict[str, dict[str, tuple[dict[str, float], int]]] = {
    "resnet-20": {"half": ({"macs": 1 / 2}, 5), "third": ({"macs": 1 / 3}, 5)},
    "mobilenet": {"half": ({"macs": 1 / 2}, 3), "fast": ({"latency": 0.52}, 8)},
}
"""What stays and the epochs after the cut, for networks without a packaged recipe."""

ROUND_TO = {"resnet-20": 8, "mobilenet": 16}
"""Chosen by times of untrained cuts: x86 runs 1x1 kernels in blocks of 16 channels."""


def recipes_of(architecture: str) -> dict:
    """Name -> recipe."""
    from penjing.pipeline import ChannelPruneRecipe, Recipe, TrainingRecipe
    from penjing.pipeline.recipe_files import load_recipe

    if architecture == "cnn":
        return {name: load_recipe(name) for name in ("channels", "channels-smallest")}
    return {
        name: Recipe(
            name=name,
            methods=(ChannelPruneRecipe(**target, round_to=ROUND_TO[architecture]),),
            training=TrainingRecipe(epochs=epochs),
        )
        for name, (target, epochs) in TARGETS[architecture].items()
    }


def cut(baseline, recipe, seed: int, data):
    """The trained model, with transforms where the recipe has any."""
    from penjing.pipeline import run_recipe

    training = (data.x_train, data.y_train)
    if baseline.input_shape[1:3] == (28, 28):
        return run_recipe(baseline, training, recipe, seed=seed)
    model = behind_enlarging(baseline)
    model.compile(**_loss())
    return run_recipe(model, training, recipe, seed=seed).get_layer("mobilenet")


def _loss() -> dict:
    import keras

    return {
        "optimizer": "sgd",
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }


def run(architecture: str, seed: int, data, *, only_train: bool) -> dict | None:
    epochs = BASELINE_EPOCHS[architecture]
    name = f"{architecture}-{seed}-{epochs}"
    baseline = kept(name, lambda: train_baseline(architecture, seed, epochs, data))
    if not baseline.compiled:
        baseline.compile(**_loss())
    models = {}
    for key, recipe in recipes_of(architecture).items():
        digest = digest_of([recipe.to_dict()])[:8]
        models[key] = (
            recipe,
            kept(
                f"{name}-{key}-{digest}",
                functools.partial(cut, baseline, recipe, seed, data),
            ),
        )
    if only_train:
        return None
    return measure(baseline, models, data)


def measure(baseline, models: dict, data) -> dict:
    import penjing
    from penjing.pipeline.runs.model_writing import write_h5

    small = baseline.input_shape[1:3] == (28, 28)
    images = data.x_test if small else enlarged(data.x_test, baseline)
    samples = data.x_train[:500] if small else enlarged(data.x_train[:200], baseline)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_h5(baseline, folder / "baseline.h5")
        files = {}

        def export(model, key, mode, finish=None):
            files[key] = penjing.export_litert(
                model,
                folder / f"{key}.tflite",
                mode,
                representative_data=samples,
                finish=finish,
            )

        export(baseline, "baseline_int8", "int8")
        export(baseline, "baseline_float32", None)
        outcome = {"channels": {}, "macs": {"baseline": _macs(baseline)}}
        for key, (recipe, model) in models.items():
            plain = penjing.strip(model) if penjing.is_compressed(model) else model
            outcome["macs"][key] = _macs(plain)
            outcome["channels"][key] = [tuple(w.shape) for w in plain.weights]
            export(model, f"{key}_int8", "int8", "smallest")
            export(plain, f"{key}_float32", None)
            mode = recipe.export.quantizations[0]
            if recipe.export.finish and mode != "int8":
                export(plain, f"{key}_smallest", mode, recipe.export.finish)
        times = penjing.measure_latency(list(files.values()), rounds=60)
        h5 = penjing.measure_size(folder / "baseline.h5")
        outcome |= {
            "parameters": baseline.count_params(),
            "h5": {"zip": h5.zip, "gzip": h5.gzip},
            "conditions": times.to_dict()["conditions"],
            "files": {
                key: {
                    "accuracy": penjing.evaluate(path, images, data.y_test)["accuracy"],
                    "raw": penjing.measure_size(path).raw,
                    "gzip": penjing.measure_size(path).gzip,
                    "milliseconds": row.milliseconds,
                    "speedup": row.speedup,
                    "speedup_low": row.speedup_low,
                    "speedup_high": row.speedup_high,
                }
                for (key, path), row in zip(files.items(), times.files, strict=True)
            },
        }
    return outcome


def _macs(model) -> int:
    import penjing

    return penjing.count_macs(model).macs


def summarize(runs: dict) -> dict:
    """Means over the seeds."""
    summary: dict = {}
    for architecture in dict.fromkeys(key.split("/")[0] for key in runs):
        outcomes = [v for k, v in runs.items() if k.startswith(architecture + "/")]
        baseline = _mean(o["files"]["baseline_float32"]["accuracy"] for o in outcomes)
        rows = {"seeds": len(outcomes), "baseline_accuracy": baseline}
        for key in outcomes[0]["files"]:
            rows[key] = {
                "accuracy": _mean(o["files"][key]["accuracy"] for o in outcomes),
                "raw_ratio": _mean(_over(o, key, "raw") for o in outcomes),
                "gzip_ratio": _mean(
                    o["h5"]["gzip"] / o["files"][key]["gzip"] for o in outcomes
                ),
                "faster_than_int8": _mean(o["files"][key]["speedup"] for o in outcomes),
                "faster_than_float32": _mean(
                    _over(o, key, "milliseconds") for o in outcomes
                ),
            }
        for key in outcomes[0]["channels"]:
            rows[f"{key}_float32"]["fewer_macs"] = _mean(
                o["macs"]["baseline"] / o["macs"][key] for o in outcomes
            )
        summary[architecture] = rows
    return summary


def _over(outcome: dict, key: str, what: str) -> float:
    """How many times less than the float baseline."""
    files = outcome["files"]
    return files["baseline_float32"][what] / files[key][what]


def _mean(values) -> float:
    return round(statistics.mean(values), 4)


def main() -> None:
    from penjing.data.datasets import load_dataset

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="cnn,resnet-20,mobilenet")
    parser.add_argument("--seeds", help="in place of 0,1,2")
    parser.add_argument("--only-train", action="store_true")
    options = parser.parse_args()
    path = RESULTS / "channels.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    data = load_dataset("fashion-mnist")
    for architecture in options.models.split(","):
        seeds = options.seeds.split(",") if options.seeds else SEEDS
        for seed in map(int, seeds):
            key = f"{architecture}/{seed}"
            if key in runs:
                continue
            outcome = run(architecture, seed, data, only_train=options.only_train)
            print(key, json.dumps(outcome), flush=True)
            if outcome is not None:
                runs[key] = outcome
                write_results("channels", {"summary": summarize(runs), "runs": runs})
    print(json.dumps(summarize(runs), indent=1))


if __name__ == "__main__":
    main()
