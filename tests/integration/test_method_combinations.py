"""Methods that change a model's layers, one after the other, to the report.

All of them on three networks: `benchmarks/method_combinations.py`.
"""

import keras
import numpy as np
import pytest
from keras import layers

from penjing.numerics.patterns import Block
from penjing.pipeline import (
    ChannelPruneRecipe,
    ClusteringConfig,
    ExportRecipe,
    FractionalSchedule,
    PruningConfig,
    QuantizeAwareRecipe,
    Recipe,
    TrainingRecipe,
    compress,
    file_stages,
)

pytestmark = pytest.mark.once


def make_model():
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.Conv2D(16, 1, name="body")(x)
    x = layers.BatchNormalization(name="body_norm")(x)
    x = layers.ReLU(name="body_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(4, name="logits")(x), name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


@pytest.mark.usefixtures("untraced")
def test_channels_fall_before_normalization_is_folded(tmp_path, monkeypatch):
    """The report of channels is of the model before its layers were folded away."""

    def export(model, path, **_):
        path.write_bytes(b"a stand-in")

    monkeypatch.setattr(file_stages, "export_litert", export)
    monkeypatch.setattr(file_stages, "evaluate", lambda *_, **__: {"accuracy": 0.5})
    blocks = PruningConfig(
        schedule=FractionalSchedule(final_sparsity=0.5, frequency=1),
        pattern=Block(2, 1),
        allocation="erk",
        importance="lamp",
    )
    cuts = ChannelPruneRecipe(
        parameters=0.7,
        scope="layer",
        round_to=4,
        batch_norm_batches=0,
    )
    rounds = QuantizeAwareRecipe(activations="int8")
    recipe = Recipe(
        name="all",
        training=TrainingRecipe(epochs=1, batch_size=16),
        methods=(cuts, blocks, ClusteringConfig(num_clusters=8), rounds),
        export=ExportRecipe(quantizations=("int8",)),
    )
    chance = np.random.default_rng(0)
    part = chance.normal(size=(32, 6, 6, 3)).astype("float32"), np.arange(32) % 4
    report = compress(
        make_model(), (part, part), recipe, out=tmp_path, accept_baseline=True
    )
    rows = {row.group.rpartition("/")[2]: row for row in report.channels.rows}
    assert rows["body"].before == 16 and rows["body"].after < 16
    assert report.channels.parameters[1] <= 0.7 * report.channels.parameters[0]
    small = keras.saving.load_model(tmp_path / "model.keras")
    assert not [v for v in small.layers if isinstance(v, layers.BatchNormalization)]
    methods = {m for row in report.weights for m in row.methods}
    assert methods == {"pruned", "clustered", "quantized"}
