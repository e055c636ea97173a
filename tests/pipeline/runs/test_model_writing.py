"""The baseline's file is the one that Keras writes, and is whole or not there."""

import json
import zipfile

import keras
import numpy as np
import pytest

from penjing.models.model_files import load_keras_model
from penjing.pipeline.runs.model_writing import write_h5, write_keras


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


@pytest.mark.once
def test_a_keras_file_is_the_same_bytes_whenever_it_is_written(tmp_path):
    relu = keras.layers.ReLU(name="relu")  # there twice, which the file must say
    image = keras.Input((4,))
    model = keras.Model(image, relu(keras.layers.Dense(4, name="dense")(relu(image))))
    model.compile("sgd", keras.losses.MeanSquaredError(), metrics=["mae"])
    paths = [tmp_path / f"{name}.keras" for name in "abcd"]
    write_keras(model, paths[0])
    write_keras(model, paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    for source, target in zip(paths, paths[1:], strict=False):
        write_keras(load_keras_model(source), target)
    assert paths[2].read_bytes() == paths[3].read_bytes()
    with zipfile.ZipFile(paths[3]) as file:
        assert {member.date_time for member in file.infolist()} == {
            (1980, 1, 1, 0, 0, 0)
        }
        assert "1980" in json.loads(file.read("metadata.json"))["date_saved"]
    loaded = load_keras_model(paths[3])
    assert loaded.compiled and len(loaded.layers) == 3
    x = np.array([[-1.0, 0.5, 2.0, 0.0]], "float32")
    np.testing.assert_array_equal(loaded(x), model(x))
