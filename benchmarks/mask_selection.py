"""Time of an exact mask against a full sort in the same backend and numpy.partition.

All three keep the 20 % largest of half-normal scores, interleaved; the figures are
minima over the rounds. Run: python benchmarks/mask_selection.py
"""

from __future__ import annotations

import argparse
import json
import time

from environment import run_on_backends, write_results

SIZES = (20_000, 235_200, 1_048_576, 4_194_304)
DENSITY = 0.2


def measure(size: int, rounds: int) -> dict:
    import keras
    import numpy as np
    from keras import ops

    from penjing.numerics.masks import top_k_mask

    def sort_mask(scores, k):
        threshold = ops.take(ops.sort(scores), size - k)
        return scores >= threshold

    def partition_mask(scores, k):
        return scores >= np.partition(scores, size - k)[size - k]

    def compiled(function):
        backend = keras.backend.backend()
        if backend == "tensorflow":
            import tensorflow

            return tensorflow.function(function, autograph=False)
        if backend == "jax":
            import jax

            return jax.jit(function)
        return function

    array = np.abs(np.random.default_rng(0).standard_normal(size)).astype("float32")
    k = round(size * DENSITY)
    tensor, count = ops.convert_to_tensor(array), ops.cast(k, "int32")
    contenders = {
        "penjing": (compiled(top_k_mask), tensor, count),
        "sort": (compiled(sort_mask), tensor, count),
        "numpy_partition": (partition_mask, array, k),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(rounds + 2):
        for name, (function, scores, kept) in contenders.items():
            start = time.perf_counter()
            mask = ops.convert_to_numpy(function(scores, kept))
            elapsed = time.perf_counter() - start
            if int(mask.sum()) != k:
                raise SystemExit(f"{name} kept {int(mask.sum())} of {k}")
            if round_number >= 2:
                seconds[name].append(elapsed)
    best = {name: min(values) for name, values in seconds.items()}
    milliseconds = {f"{name}_ms": round(best[name] * 1e3, 3) for name in best}
    ratio = round(best["sort"] / best["penjing"], 1)
    return {**milliseconds, "sort_over_penjing": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--backends", default="tensorflow,jax,torch")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps({size: measure(size, options.rounds) for size in SIZES}))
        return
    backends = options.backends.split(",")
    results = run_on_backends(__file__, backends, [f"--rounds={options.rounds}"])
    settings = {"rounds": options.rounds, "density": DENSITY}
    print(write_results("mask_selection", {"settings": settings, "results": results}))


if __name__ == "__main__":
    main()
