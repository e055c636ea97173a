"""Every combination of methods that a recipe accepts, on three networks, to its report.

Pairs and triples of methods, in several orders, with one epoch on a few samples each.
What ends without a report, or with a file that was refused, is written down with its
reason. Steps run untraced: three of them take less time than TensorFlow's tracing.
Run: python benchmarks/method_combinations.py (an hour on two cores)
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results
from keras import layers

from penjing import pipeline
from penjing.errors import CompressionError, CompressionWarning
from penjing.numerics.patterns import NM, Block

sys.path.append(str(Path(__file__).parents[1]))
from tests.conftest import spare_the_converter, training_untraced

_RAMP = pipeline.FractionalSchedule(final_sparsity=0.5, frequency=1)
METHODS: dict[str, Any] = {
    "channels": pipeline.ChannelPruneRecipe(
        parameters=0.7,
        scope="layer",
        recovery_epochs=1,
        distillation=0.5,
        round_to=4,
        batch_norm_batches=2,
    ),
    "prune": pipeline.PruningConfig(schedule=_RAMP, scope="global", l1=1e-5),
    "blocks": pipeline.PruningConfig(
        schedule=_RAMP, pattern=Block(2, 1), allocation="erk", importance="lamp"
    ),
    "n:m": pipeline.PruningConfig(schedule=_RAMP, pattern=NM(2, 4)),
    "cluster": pipeline.ClusteringConfig(num_clusters=8),
    "cluster channels": pipeline.ClusteringConfig(
        num_clusters=4, granularity="per_channel"
    ),
    "levels": pipeline.QuantizeAwareRecipe(bits=4, levels=15, begin=0.5),
    "activations": pipeline.QuantizeAwareRecipe(activations="int8"),
}


def mlp() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.1, name="drop"),
            layers.Dense(16, activation="relu", name="second"),
            layers.Dense(4, name="logits"),
        ],
        name="mlp",
    )


def cnn() -> keras.Model:
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = stem = layers.ReLU(name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(16, 1, name="body")(x)
    x = layers.BatchNormalization(name="body_norm")(x)
    x = layers.ReLU(name="body_relu")(layers.Add(name="add")([x, stem]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    return keras.Model(image, layers.Dense(4, name="logits")(x), name="cnn")


def text() -> keras.Model:
    tokens = keras.Input((12,), dtype="int32")
    x = layers.Embedding(20, 16, name="embedding")(tokens)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Add(name="add")(
        [x, layers.MultiHeadAttention(2, 8, name="attention")(x, x)]
    )
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    return keras.Model(tokens, layers.Dense(4, name="logits")(x), name="text")


NETS = {"mlp": mlp, "cnn": cnn, "text": text}


def make_data(model: keras.Model, count: int = 48) -> Any:
    chance = np.random.default_rng(0)
    shape = (count, *model.input_shape[1:])
    x = chance.normal(size=shape).astype("float32")
    if "int" in model.inputs[0].dtype:
        x = chance.integers(0, 20, shape).astype("int32")
    y = chance.integers(0, 4, count)
    return (x, y), (x[:16], y[:16])


def combinations() -> list[tuple[str, ...]]:
    """Single methods, pairs, triples and whole chains; of each kind one at most."""
    kinds = [type(method) for method in METHODS.values()]
    found = [
        names
        for size in (1, 2, 3, 4)
        for names in itertools.combinations(METHODS, size)
        if len({kinds[list(METHODS).index(name)] for name in names}) == size
    ]
    # Other orders make the same model: of each, the reverse behind the channels.
    turned = [
        (*names[:first], *reversed(names[first:]))
        for names in found
        for first in [int(names[0] == "channels")]
        if len(names) - first > 1
    ]
    return [*found, *turned]


def make_recipe(names: tuple[str, ...]) -> pipeline.Recipe:
    kind = "int8" if "activations" in names else "dynamic"
    return pipeline.Recipe(
        name="+".join(names),
        training=pipeline.TrainingRecipe(
            epochs=1,
            batch_size=16,
            loss={"name": "SparseCategoricalCrossentropy", "from_logits": True},
            metrics=("accuracy",),
        ),
        methods=tuple(METHODS[name] for name in names),
        export=pipeline.ExportRecipe(quantizations=(kind,)),
    )


def outcome(net: str, names: tuple[str, ...]) -> str:
    """What a combination comes to: an empty text where all is well."""
    recipe = make_recipe(names)
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    model = NETS[net]()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", CompressionWarning)
        try:
            report = pipeline.compress(
                model,
                make_data(model),
                recipe,
                out=folder,
                accept_baseline=True,
                progress=False,
            )
        except CompressionError as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:
            return f"NOT OURS: {type(error).__name__}: {error}"
        there = {path.name for path in Path(folder).iterdir()}
    if not {"report.json", "report.html"} <= there:
        return "no report"
    return "; ".join(f"{row.name}: {row.reason}" for row in report.refused)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--part", default="0/1", help="K/N: each N-th from the K-th on")
    parser.add_argument("--name", default="method_combinations")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    wanted = list(itertools.product(options.nets.split(","), combinations()))
    faults, done = {}, 0
    if keras.backend.backend() == "tensorflow":
        spare_the_converter()
    for net, names in wanted[part::parts]:
        begin = time.monotonic()
        with training_untraced():
            found = outcome(net, names)
        done += 1
        line = f"{net}: {', '.join(names)}"
        print(line, f"{time.monotonic() - begin:.1f} s", found, flush=True)
        if found:
            faults[line] = found
    print(write_results(options.name, {"combinations": done, "faults": faults}))


if __name__ == "__main__":
    main()
