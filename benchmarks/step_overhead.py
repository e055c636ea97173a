"""Time of a training step with the pruning engine over that of the plain model.

Plain and pruned models are trained in turn for `--steps` batches; the ratio is that of
the minima over all rounds. Run: python benchmarks/step_overhead.py
"""

from __future__ import annotations

import argparse
import json
import time

from environment import run_on_backends, write_results

MODELS = ("lenet-300-100", "cnn")
FREQUENCIES = (100, 1)


def measure(architecture: str, steps: int, rounds: int, batch_size: int) -> dict:
    import keras
    import numpy as np

    import penjing
    from penjing.data.architectures import build_architecture

    class EpochClock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds = time.perf_counter() - self.start

    rng = np.random.default_rng(0)
    x = rng.random((steps * batch_size, 28, 28), dtype=np.float32)
    y = rng.integers(0, 10, steps * batch_size)
    plain = build_architecture(architecture)
    models = {"plain": plain}
    for frequency in FREQUENCIES:
        schedule = penjing.ConstantSparsity(0.8, frequency=frequency)
        models[f"frequency_{frequency}"] = penjing.prune(plain, schedule)
    for model in models.values():
        model.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for round_number in range(rounds + 1):
        for name, model in models.items():
            clock = EpochClock()
            model.fit(x, y, batch_size=batch_size, verbose=0, callbacks=[clock])
            if round_number:
                seconds[name].append(clock.seconds)
    best = {name: min(values) / steps for name, values in seconds.items()}
    return {
        "plain_ms": round(best["plain"] * 1e3, 3),
        **{name: round(best[name] / best["plain"], 3) for name in models},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--backends", default="tensorflow,jax,torch")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--name", default="step_overhead")
    options = parser.parse_args()
    if options.worker:
        results = {
            architecture: measure(
                architecture, options.steps, options.rounds, options.batch_size
            )
            for architecture in options.models.split(",")
        }
        print(json.dumps(results))
        return
    arguments = [
        f"--models={options.models}",
        f"--steps={options.steps}",
        f"--rounds={options.rounds}",
        f"--batch-size={options.batch_size}",
    ]
    backends = options.backends.split(",")
    results = run_on_backends(__file__, backends, arguments)
    settings = {
        "steps": options.steps,
        "rounds": options.rounds,
        "batch_size": options.batch_size,
    }
    print(write_results(options.name, {"settings": settings, "ratios": results}))


if __name__ == "__main__":
    main()
