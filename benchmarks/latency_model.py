"""How well the latency model foretells thinner networks.

MobileNet (96x96, width 1) and the kernels of its thinner versions: the time that
`penjing.build_latency_model` foretells from single kernels, and the time of the file of
the thinner network. LiteRT, one thread, batch 1; weights are random, which changes no
time. No time that was kept before is used.
Run: python benchmarks/latency_model.py
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from environment import write_results

WIDTHS = (0.75, 0.5, 0.25)
MODES = (None, "dynamic", "int8")


def network(width: float):
    import keras

    return keras.applications.MobileNet(
        weights=None, alpha=width, input_shape=(96, 96, 3), classes=10
    )


def kept_fractions(whole, thin) -> dict[str, tuple[float, float]]:
    """Path of each kernel -> fractions of inputs and outputs in the thin network."""
    fractions = {}
    for ours, theirs in zip(whole.weights, thin.weights, strict=True):
        if ours.name == "kernel":
            first, second = (theirs.shape[a] / ours.shape[a] for a in (-2, -1))
            depthwise = ours.shape[-1] == 1
            fractions[ours.path] = (first, first if depthwise else second)
    return fractions


def measure_mode(mode: str | None, folder: Path) -> dict:
    import numpy as np

    import penjing

    whole = network(1.0)
    start = time.perf_counter()
    model = penjing.build_latency_model(whole, quantization=mode, cache_dir=folder)
    results = {
        "seconds": round(time.perf_counter() - start, 1),
        "whole_us": round(1e3 * model.measured, 1),
        "widths": {},
    }
    samples = np.random.default_rng(0).random((20, 96, 96, 3)).astype("float32")
    macs = penjing.count_macs(whole).macs
    for width in WIDTHS:
        thin = network(width)
        file = penjing.export_litert(
            thin,
            folder / "thin.tflite",
            mode,
            representative_data=samples,
            verify=False,  # outputs of random weights all but vanish: int8 loses them
        )
        foretold = model.milliseconds(kept_fractions(whole, thin))
        taken = penjing.measure_latency(file).files[0].lower_quartile
        results["widths"][str(width)] = {
            "fewer_macs": round(macs / penjing.count_macs(thin).macs, 2),
            "foretold_us": round(1e3 * foretold, 1),
            "measured_us": round(1e3 * taken, 1),
        }
    return results


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        modes = {mode or "float32": measure_mode(mode, Path(name)) for mode in MODES}
    write_results("latency_model", {"modes": modes})


if __name__ == "__main__":
    main()
