"""Why a pruned step takes longer than a plain one: the operations of both.

LeNet-300-100, batch 128, masks every 100 steps. PyTorch: what its profiler counts in a
step, on TensorFlow the nodes of the step's graph that run in every step. Run once for
each backend:

    KERAS_BACKEND=torch python benchmarks/step_profile.py
    KERAS_BACKEND=tensorflow python benchmarks/step_profile.py
"""

from __future__ import annotations

import collections
import json
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import RESULTS, write_results

import penjing
from penjing.data.architectures import build_architecture

NAME = "step_profile"
BATCH, STEPS, MOST_NAMED = 128, 10, 6
Counts = collections.Counter


def models() -> dict[str, keras.Model]:
    schedule = penjing.PolynomialDecay(
        final_sparsity=0.9, begin_step=0, end_step=10**6, frequency=100
    )
    plain = build_architecture("lenet-300-100", (28, 28), seed=0)
    made = {"plain": plain, "pruned": penjing.prune(plain, schedule)}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for model in made.values():
        model.compile("adam", loss)
    return made


def profiled(model: keras.Model, x, y) -> Counts:
    """Operations of PyTorch in a step, which its profiler counts over some."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        model.fit(x, y, batch_size=BATCH, verbose=0)
    own = (e for e in found.key_averages() if e.key.startswith("aten::"))
    return Counts({e.key.removeprefix("aten::"): round(e.count / STEPS) for e in own})


def in_graph(model: keras.Model, x, y) -> Counts:
    """Nodes of TensorFlow's graph of a step; constants and the like cost nothing."""
    import tensorflow as tf

    batch = tf.constant(x[:BATCH]), tf.constant(y[:BATCH])
    step = tf.function(lambda *given: model.train_step(given))
    nodes = step.get_concrete_function(*batch).graph.get_operations()
    idle = ("Const", "Placeholder", "NoOp", "Identity", "StopGradient")
    return Counts(node.type for node in nodes if node.type not in idle)


def main() -> None:
    warnings.simplefilter("ignore")
    backend = keras.backend.backend()
    count = {"torch": profiled, "tensorflow": in_graph}[backend]
    rng = np.random.default_rng(0)
    x = rng.random((STEPS * BATCH, 28, 28), "float32")
    y = rng.integers(0, 10, len(x))
    counts = {}
    for name, model in models().items():
        model.fit(x[:BATCH], y[:BATCH], batch_size=BATCH, verbose=0)
        counts[name] = count(model, x, y)
    more = counts["pruned"] - counts["plain"]
    path = RESULTS / f"{NAME}.json"
    known = json.loads(path.read_text())["backends"] if path.exists() else {}
    known[backend] = {
        **{name: found.total() for name, found in counts.items()},
        "more": dict(more.most_common(MOST_NAMED)),
    }
    print(backend, known[backend])
    write_results(NAME, {"model": "lenet-300-100", "backends": known})


if __name__ == "__main__":
    main()
