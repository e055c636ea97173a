"""A recipe that trains for int8: the file computes what the trained model computes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.data.data_sources import UserData
from penjing.measurement.inspection import inspect_file
from penjing.pipeline import (
    ClusteringConfig,
    ExportRecipe,
    FractionalSchedule,
    PruningConfig,
    QuantizeAwareRecipe,
    Recipe,
    TrainingRecipe,
    compress,
)

pytestmark = pytest.mark.once


def make_model():
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, use_bias=False, name="conv")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, name="head")(x), name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def test_all_methods_reach_the_file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 8, 8, 2)).astype("float32")
    y = rng.integers(0, 3, 96)
    recipe = Recipe(
        name="int8",
        training=TrainingRecipe(epochs=2, batch_size=16),
        methods=(
            PruningConfig(schedule=FractionalSchedule(final_sparsity=0.5)),
            ClusteringConfig(num_clusters=4),
            QuantizeAwareRecipe(activations="int8", begin=0.3),
        ),
        export=ExportRecipe(quantizations=("int8", "dynamic")),
    )
    data = UserData(train=(x, y), test=(x, y), source="here")
    compress(make_model(), data, recipe, out=tmp_path)
    trained = keras.models.load_model(tmp_path / "model.trained.keras")
    plain = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in plain.layers if layer.weights] == ["conv", "head"]
    wanted = keras.ops.convert_to_numpy(trained(x))
    found = penjing.LiteRTModel(tmp_path / "model.tflite").predict(x)
    step = trained.activations.grids()["head"][0]
    # Means fall on halves of a step now and then, which float32 cannot tell.
    assert (np.abs(found - wanted) > 0.5 * step).mean() < 0.02
    kernels = {
        tensor.shape: tensor
        for tensor in inspect_file(tmp_path / "model.tflite").tensors
        if tensor.dtype == "int8"
    }
    for shape, size in (((6, 3, 3, 2), 108), ((3, 6), 18)):
        assert kernels[shape].distinct <= 5
        assert kernels[shape].zeros >= size // 2
