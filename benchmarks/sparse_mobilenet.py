"""A trained mobilenet whose zeros make it faster in WebAssembly.

A mobilenet is trained on the full Fashion-MNIST, enlarged to 64x64 with three channels,
then pruned to 90 % zeros in its 1x1 convolutions. Measured are the files: accuracy on
the 10,000 test images, size, and the time in headless Chromium in rounds in which the
sparse file takes turns with its dense twin. Run:

    python benchmarks/sparse_mobilenet.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

from environment import write_results
from trained_models import BATCH_SIZE, behind_enlarging, enlarged, kept, train_baseline

SPARSITY = 0.9
BASELINE_EPOCHS = 8
POINTWISE = ["block?_conv/kernel"]


def sparse(baseline, seed: int, epochs: int, data):
    """Prune the 1x1 convolutions while the model trains on."""
    import keras

    import penjing

    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(data.x_train) // BATCH_SIZE)
    schedule = penjing.PolynomialDecay(
        final_sparsity=SPARSITY, begin_step=0, end_step=steps // 2, frequency=50
    )
    model = penjing.prune(behind_enlarging(baseline), schedule, include=POINTWISE)
    rate = keras.optimizers.schedules.CosineDecay(
        3e-4, steps, warmup_target=3e-3, warmup_steps=steps // 20
    )
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.x_train, data.y_train, batch_size=BATCH_SIZE, epochs=epochs, verbose=2
    )
    return penjing.strip(model).get_layer("mobilenet")


def measure(models: dict, data, engine: str, rounds: int) -> dict:
    import penjing

    images = enlarged(data.x_test, models["dense"])
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.tflite" for name in models}
        penjing.export_litert(models["dense"], paths["dense"])
        penjing.export_litert(
            models["sparse"], paths["sparse"], encoding="sparse", runtime="wasm"
        )
        paths["twin"] = Path(folder) / "twin.tflite"
        penjing.export_litert(models["sparse"], paths["twin"])
        accuracies = {
            name: penjing.evaluate(path, images, data.y_test)["accuracy"]
            for name, path in paths.items()
        }
        sizes = {name: penjing.measure_size(path) for name, path in paths.items()}
        check = penjing.verify(
            paths["sparse"],
            runtime="wasm",
            twin=paths["twin"],
            inputs=images[:32],
            engine=engine,
        )
        times = penjing.measure_wasm_latency(
            [paths["dense"], paths["sparse"]], engine=engine, rounds=rounds
        )
    return {
        "parameters": models["dense"].count_params(),
        "sparsity": penjing.sparsity_report(models["sparse"]).sparsity,
        "accuracy": accuracies,
        "raw": {name: size.raw for name, size in sizes.items()},
        "gzip": {name: size.gzip for name, size in sizes.items()},
        "largest_difference": check.difference,
        "largest_difference_to_python": check.python_difference,
        "faster_than_twin": check.ratio,
        "conditions": dataclasses.asdict(times.conditions),
        "files": {
            name: {
                "milliseconds": row.milliseconds,
                "quartiles": [row.lower_quartile, row.upper_quartile],
                "speedup": [row.speedup, row.speedup_low, row.speedup_high],
            }
            for name, row in zip(("dense", "sparse"), times.files, strict=True)
        },
    }


def main() -> None:
    from penjing.data.datasets import load_dataset

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--engine", default="chromium")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--train-only", action="store_true")
    options = parser.parse_args()
    data = load_dataset("fashion-mnist")
    name = f"mobilenet-{options.seed}-{BASELINE_EPOCHS}"
    baseline = kept(
        name, lambda: train_baseline("mobilenet", options.seed, BASELINE_EPOCHS, data)
    )
    pruned = kept(
        f"{name}-sparse-{options.epochs}",
        lambda: sparse(baseline, options.seed, options.epochs, data),
    )
    if options.train_only:
        return
    content = measure(
        {"dense": baseline, "sparse": pruned}, data, options.engine, options.rounds
    )
    content = {"epochs": options.epochs, "engine": options.engine, **content}
    print(json.dumps(content, indent=1))
    write_results("sparse_mobilenet", content)


if __name__ == "__main__":
    main()
