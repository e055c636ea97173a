"""The baseline's file is the one that Keras writes, and is whole or not there."""

import keras
import numpy as np
import pytest

from penjing.pipeline.model_writing import write_h5, write_keras


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def sequential():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    return model


@pytest.mark.once
@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras' advice to use `.keras`
def test_an_h5_file_made_in_memory_is_that_of_keras_byte_for_byte(tmp_path):
    model = sequential()
    assert write_h5(model, tmp_path / "ours.h5") == "ours.h5"
    model.save(tmp_path / "theirs.h5", include_optimizer=False)
    ours, theirs = (tmp_path / f"{name}.h5" for name in ("ours", "theirs"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.once
def test_of_a_subclassed_model_the_weights_alone_are_written(tmp_path):
    model, twin = Own(), Own()
    for each in (model, twin):
        each(np.ones((1, 4), "float32"))
    write_h5(model, tmp_path / "own.weights.h5")
    twin.load_weights(tmp_path / "own.weights.h5")
    np.testing.assert_array_equal(twin.get_weights()[0], model.get_weights()[0])
    assert [path.name for path in tmp_path.iterdir()] == ["own.weights.h5"]


def test_a_keras_file_comes_back(tmp_path):
    model = sequential()
    write_keras(model, tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
