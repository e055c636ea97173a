"""Flash, RAM and accuracy of what the recipe `micro` makes, on the full Fashion-MNIST.

For every network and seed a baseline is trained on 55,000 images. The recipe cuts it to
several shares of its flash; of those that lose at most 0.5 points on 5,000 validation
images the smallest is taken, else the most accurate. A control is trained as long, but
dense, unless `--no-control`. Flash is the size of the file that TensorFlow Lite Micro
runs, nothing compressed, beside that of the baseline's plain int8 file; the arena is
TFLM's figure. Accuracies are those on the 10,000 test images. Trained models are kept
in `out/benchmarks`, finished rows in the results, so it can be interrupted. Run:

    python benchmarks/micro_recipe.py
    python benchmarks/micro_recipe.py --networks cnn --seeds 0 --shares 0.1,0.2
    python benchmarks/micro_recipe.py --networks mobilenet --zeros 0.7 --levels 15
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from environment import RESULTS, write_results
from ethos_estimates import PROCESSOR
from trained_models import BATCH_SIZE, LEARNING_RATES, kept

from penjing.pipeline.runs.run_state import digest_of
from penjing.runtime.ethos_u import estimate_by_vela

NAME = "micro_recipe"
VALIDATION = 5_000
MOST_LOST = 0.005
BASELINE_EPOCHS = {"cnn": 10, "ds-cnn": 10, "resnet-20": 8, "mobilenet": 8}
RECIPE_EPOCHS = {"ds-cnn": 6, "resnet-20": 6, "mobilenet": 6}  # others: the recipe's
SHARES = {
    "cnn": (0.3, 0.4),
    "ds-cnn": (0.75,),
    "resnet-20": (0.5, 0.75),
    "mobilenet": (0.5, 0.75),
}
SIDE = {"mobilenet": 32}  # images behind a border of zeros; others see 28


def load(network: str, samples: int | None):
    """Training, validation and test data, each images and classes."""
    from penjing.data.datasets import load_dataset

    data = load_dataset("fashion-mnist")
    border = (SIDE.get(network, 28) - 28) // 2
    pads = ((0, 0), (border, border), (border, border))
    x, x_test = (
        np.pad(images, pads)[..., None] for images in (data.x_train, data.x_test)
    )
    train = x[:-VALIDATION][:samples], data.y_train[:-VALIDATION][:samples]
    validation = x[-VALIDATION:][:samples], data.y_train[-VALIDATION:][:samples]
    return train, validation, (x_test[:samples], data.y_test[:samples])


def build(network: str, seed: int):
    import keras

    from penjing.data.architectures import build_architecture

    keras.utils.set_random_seed(seed)
    side = SIDE.get(network, 28)
    if network != "ds-cnn":
        return build_architecture(network, (side, side, 1), seed=seed)
    layers = keras.layers
    stack = [keras.Input((side, side, 1))]
    stack += [layers.Conv2D(64, 3, strides=2, padding="same", use_bias=False)]
    stack += [layers.BatchNormalization(), layers.ReLU()]
    for _ in range(4):
        stack += [layers.DepthwiseConv2D(3, padding="same", use_bias=False)]
        stack += [layers.BatchNormalization(), layers.ReLU()]
        stack += [layers.Conv2D(64, 1, use_bias=False)]
        stack += [layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10)])


def train(network: str, seed: int, epochs: int, data):
    """A dense network, with the schedule that the recipe trains with."""
    import keras

    model = build(network, seed)
    steps = epochs * -(-len(data[0]) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(steps - steps // 20, 1),
        warmup_target=LEARNING_RATES.get(network, 1e-3),
        warmup_steps=max(steps // 20, 1),
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(*data, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model


def name_of(network: str, seed: int, epochs: int, data) -> str:
    return f"micro-{network}-{seed}-{epochs}-{len(data[0])}"


def baseline_of(network: str, seed: int, epochs: int, data):
    return kept(
        name_of(network, seed, epochs, data),
        functools.partial(train, network, seed, epochs, data),
    )


def recipe_for(
    share: float,
    epochs: int | None,
    zeros: float | None,
    levels: int | None,
    max_arena: float | None,
):
    from penjing.pipeline.recipe_files import load_recipe

    recipe = load_recipe("micro")
    cut, prune, quantize = recipe.methods
    cut = dataclasses.replace(cut, flash=share, max_arena=max_arena or cut.max_arena)
    if zeros:
        schedule = dataclasses.replace(prune.schedule, final_sparsity=zeros)
        prune = dataclasses.replace(prune, schedule=schedule)
    quantize = dataclasses.replace(quantize, levels=levels or quantize.levels)
    recipe = dataclasses.replace(recipe, methods=(cut, prune, quantize))
    if epochs is not None:
        training = dataclasses.replace(recipe.training, epochs=epochs, minimum_steps=0)
        recipe = dataclasses.replace(recipe, training=training)
    return recipe


def epochs_of(recipe, samples: int) -> int:
    """Epochs of all that the recipe trains."""
    steps_an_epoch = -(-samples // recipe.training.batch_size)
    last = max(
        recipe.training.epochs, -(-recipe.training.minimum_steps // steps_an_epoch)
    )
    return last + recipe.methods[0].steps * recipe.methods[0].recovery_epochs


def compressed(baseline, recipe, seed: int, data):
    from penjing.pipeline import run_recipe

    return run_recipe(baseline, data, recipe, seed=seed, progress=False)


def int8_file(model, path: Path, data, finish: str | None) -> Path:
    import penjing

    return penjing.export_litert(
        model,
        path,
        "int8",
        representative_data=data[0][:500],
        runtime="micro",
        finish=finish,
    )


def arena_of(path: Path, image) -> int:
    from penjing.runtime.tflm import run_in_tflm

    return run_in_tflm(path.read_bytes(), [[image[None]]]).arena.total


def accuracy(model, data) -> float:
    import penjing

    return float(penjing.evaluate(model, *data)["accuracy"])


def run(network: str, seed: int, shares, options) -> dict:
    data, validation, test = load(network, options.samples)
    epochs = options.epochs or BASELINE_EPOCHS[network]
    recipe_epochs = options.epochs or RECIPE_EPOCHS.get(network)
    name = name_of(network, seed, epochs, data)
    baseline = baseline_of(network, seed, epochs, data)
    settings = recipe_epochs, options.zeros, options.levels, options.max_arena
    long = epochs_of(recipe_for(shares[0], *settings), len(data[0])) + epochs
    with tempfile.TemporaryDirectory() as folder:
        plain = int8_file(baseline, Path(folder, "plain.tflite"), data, None)
        image = data[0][0].astype("float32")
        row = {
            "parameters": baseline.count_params(),
            "accuracy": accuracy(baseline, test),
            "validation": accuracy(baseline, validation),
            "epochs": epochs,
            "epochs_in_all": long,
            "flash": plain.stat().st_size,
            "arena": arena_of(plain, image),
            "shares": {},
        }
        if not options.no_control:
            control = kept(
                f"{name}-control-{long}",
                functools.partial(train, network, seed, long, data),
            )
            row["control_accuracy"] = accuracy(control, test)
        for share in shares:
            recipe = recipe_for(share, *settings)
            digest = digest_of([recipe.to_dict()])[:8]
            model = kept(
                f"{name}-{digest}",
                functools.partial(compressed, baseline, recipe, seed, data),
            )
            row["shares"][str(share)] = measure(model, Path(folder), data, validation)
        row["chosen"] = chosen(row)
        small = Path(folder, row["shares"][row["chosen"]]["file"])
        row["result"] = {
            **result(small, row, test),
            **vela_ratio(plain, small, network),
        }
    return row


def measure(model, folder: Path, data, validation) -> dict:
    import penjing

    path = folder / f"{len(list(folder.iterdir()))}.tflite"
    int8_file(model, path, data, "smallest")
    report = penjing.pack_litert(path, progress=False)
    return {
        "validation": accuracy(path, validation),
        "parameters": penjing.strip(model).count_params(),
        "plain": report.flash_before,
        "flash": report.flash_after,
        "arena": report.arena_after,
        "compared_equal": report.compared,
        "file": path.name,
    }


def chosen(row: dict) -> str:
    """The smallest share that loses little on validation data, else the best one."""
    shares = row["shares"]
    good = [
        key
        for key, found in shares.items()
        if found["validation"] >= row["validation"] - MOST_LOST
    ]
    if good:
        return min(good, key=lambda key: shares[key]["flash"])
    return max(shares, key=lambda key: shares[key]["validation"])


def result(path: Path, row: dict, test) -> dict:
    found = row["shares"][row["chosen"]]
    return {
        "accuracy": accuracy(path, test),  # of the plain file, whose outputs are equal
        "flash": found["flash"],
        "ratio": round(row["flash"] / found["flash"], 2),
        "arena": found["arena"],
        "arena_ratio": round(found["arena"] / row["arena"], 3),
    }


def vela_ratio(plain: Path, small: Path, network: str) -> dict[str, float]:
    """How many times less flash Vela estimates, where it is installed."""
    if importlib.util.find_spec("ethosu") is None:
        return {}
    contents = [path.read_bytes() for path in (plain, small)]
    before, after = estimate_by_vela(contents, network, PROCESSOR)
    return {"vela_flash_ratio": round(before.flash / after.flash, 2)}


def summarize(runs: dict) -> dict:
    summary: dict = {}
    for network in dict.fromkeys(key.split("/")[0] for key in runs):
        rows = [row for key, row in runs.items() if key.startswith(network + "/")]
        worst = max(row["accuracy"] - row["result"]["accuracy"] for row in rows)
        summary[network] = {
            "seeds": len(rows),
            "baseline_accuracy": _mean(row["accuracy"] for row in rows),
            **_control(rows),
            "plain_flash": _mean(row["flash"] for row in rows),
            "plain_arena": _mean(row["arena"] for row in rows),
            **{
                key: _mean(row["result"][key] for row in rows)
                for key in rows[0]["result"]
            },
            "most_lost": round(worst, 5),
            "lowest_ratio": min(row["result"]["ratio"] for row in rows),
        }
    return summary


def _control(rows) -> dict[str, float]:
    found = [row["control_accuracy"] for row in rows if "control_accuracy" in row]
    return {"control_accuracy": _mean(found)} if found else {}


def _mean(values) -> float:
    return round(statistics.mean(values), 5)


def own_settings(options) -> str:
    zeros = [f"{options.zeros:.0%} zeros"] if options.zeros else []
    levels = [f"{options.levels} levels"] if options.levels else []
    arena = [f"arena {options.max_arena:g}x"] if options.max_arena else []
    settings = ", ".join(zeros + levels + arena)
    return f" ({settings})" if settings else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default=",".join(BASELINE_EPOCHS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--shares", help="of flash, in place of each network's own")
    parser.add_argument("--zeros", type=float, help="share, in place of the recipe's")
    parser.add_argument("--levels", type=int, help="in place of the recipe's")
    parser.add_argument(
        "--max-arena", type=float, help="of the plain file's, estimated"
    )
    parser.add_argument("--name", default=NAME, help="of the results file")
    parser.add_argument("--samples", type=int, help="fewer images, to try the script")
    parser.add_argument("--epochs", type=int, help="fewer, to try the script")
    parser.add_argument("--no-control", action="store_true", help="saves hours")
    options = parser.parse_args()
    path = RESULTS / f"{options.name}.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    for network in options.networks.split(","):
        shares = SHARES[network]
        if options.shares:
            shares = tuple(map(float, options.shares.split(",")))
        for seed in map(int, options.seeds.split(",")):
            key = f"{network}{own_settings(options)}/{seed}"
            if key in runs:
                continue
            runs[key] = run(network, seed, shares, options)
            print(key, json.dumps(runs[key]), flush=True)
            write_results(options.name, {"summary": summarize(runs), "runs": runs})
    print(json.dumps(summarize(runs), indent=1))


if __name__ == "__main__":
    main()
