"""What other processes get of a model and data, and what they cannot be given."""

from __future__ import annotations

import json
import sys

import keras
import ml_dtypes
import numpy as np
import pytest

from penjing.budget.workplaces.shared_inputs import SharedInputs, share_inputs
from penjing.budget.workplaces.trial_process import read_inputs, write_inputs
from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, DataError

pytestmark = pytest.mark.once

MODULE = """
import keras, numpy as np

@keras.saving.register_keras_serializable("{name}")
class Own(keras.layers.Layer):
    pass

def lost(y, y_pred):
    return keras.ops.mean((y - y_pred) ** 2)

class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.zeros((2, 4)), np.zeros((2, 4))

class Others(Batches):
    pass

def load():
    return {{"train": Batches(), "test": (np.zeros((2, 4)), np.zeros((2, 4)))}}
"""


def small_model(*layers, loss="mse"):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(4)])
    model.compile("sgd", loss)
    return model


def data_of(train, validation=None, source="data in memory"):
    return UserData(
        train=train, validation=validation, test="not theirs", source=source
    )


ARRAYS = (np.zeros((3, 4)), np.zeros((3, 4)))


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """A module of the user's, forgotten afterwards."""
    name = f"own_{request.node.name.partition('[')[0]}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__(name)
    sys.modules.pop(name, None)


def through_files(inputs, folder):
    folder.mkdir()
    write_inputs(inputs, folder)
    return read_inputs(folder)


def test_arrays_keep_values_types_and_places(tmp_path):
    x = {"a": np.arange(6, dtype="float16"), "b": np.zeros((6, 0), bool)}
    y = np.asfortranarray(np.arange(12).reshape(6, 2), "int8")
    weight = np.arange(6).astype(ml_dtypes.bfloat16)
    data = data_of((x, y, weight), ([keras.ops.ones((2, 2))], y[::2]))
    shared = share_inputs(small_model(), data, ())
    _, found = through_files(shared, tmp_path / "files").load()
    for name in ("train", "validation"):
        given, back = (keras.tree.flatten(getattr(d, name)) for d in (data, found))
        for array, other in zip(given, back, strict=True):
            array = np.asarray(array)
            assert (array.dtype, array.shape) == (other.dtype, other.shape)
            assert array.tobytes() == other.tobytes()
    assert list(found.train[0]) == ["a", "b"]
    assert found.test is None


def test_what_is_written_to_an_array_reaches_no_other_process(tmp_path):
    shared = share_inputs(small_model(), data_of(ARRAYS), ())
    found = through_files(shared, tmp_path / "files")
    found.arrays[0][:] = 7
    assert not read_inputs(tmp_path / "files").arrays[0].any()


def test_the_model_comes_with_its_weights_its_loss_and_the_settings(tmp_path):
    model = small_model()
    keras.config.set_dtype_policy("mixed_bfloat16")
    epsilon = keras.config.epsilon()
    keras.config.set_epsilon(1e-3)
    shared = through_files(share_inputs(model, data_of(ARRAYS), ()), tmp_path / "files")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(epsilon)
    try:
        loaded, _ = shared.load()
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert keras.config.epsilon() == 1e-3
    finally:
        keras.config.set_epsilon(epsilon)
    assert loaded.loss == "mse"
    for weight, other in zip(model.weights, loaded.weights, strict=True):
        assert weight.path == other.path
        np.testing.assert_array_equal(weight, other)


def test_modules_of_the_models_classes_are_found(module):
    shared = share_inputs(small_model(module.Own()), data_of(ARRAYS), ["json"])
    assert {"json", module.__name__} <= {*shared.index["modules"]}
    assert type(shared.load()[0].layers[0]) is module.Own


def test_a_module_that_is_missing_elsewhere_is_named():
    shared = share_inputs(small_model(), data_of(ARRAYS), ["no_such_module"])
    with pytest.raises(CompressionError, match="`no_such_module`, named in `imports`"):
        shared.load()


def test_classes_of_the_script_are_refused_with_the_way_out(module, monkeypatch):
    monkeypatch.setattr(module.Own, "__module__", "__main__")
    with pytest.raises(CompressionError, match="find them: Own. Move them.*workers=1"):
        share_inputs(small_model(module.Own()), data_of(ARRAYS), ())


def test_a_model_that_cannot_be_saved_is_refused(module, monkeypatch):
    monkeypatch.setattr(module.Own, "get_config", lambda self: 1 / 0)
    with pytest.raises(CompressionError, match="cannot be saved as .keras.*workers=1"):
        share_inputs(small_model(module.Own()), data_of(ARRAYS), ())


def test_a_loss_that_is_lost_on_the_way_is_an_error(module):
    shared = share_inputs(small_model(loss=module.lost), data_of(ARRAYS), ())
    with pytest.raises(CompressionError, match="loss or a metric.*cannot be restored"):
        shared.load()


def test_loaders_of_a_function_are_made_anew(module):
    source = f"function {module.__name__}:load"
    data = data_of(module.Batches(), ARRAYS, source)
    shared = share_inputs(small_model(), data, ())
    found = SharedInputs(
        index=json.loads(json.dumps(shared.index)), model=shared.model, arrays=ARRAYS
    ).load()[1]
    assert type(found.train) is module.Batches
    np.testing.assert_array_equal(found.validation[0], ARRAYS[0])


def test_loaders_that_are_others_over_there_are_refused(module):
    source = f"function {module.__name__}:load"
    shared = share_inputs(small_model(), data_of(module.Others(), None, source), ())
    with pytest.raises(DataError, match="a Batches of 3 .*here it is a Others of 3"):
        shared.load()


def test_loaders_in_memory_are_refused(module):
    with pytest.raises(
        DataError, match=r"loader \(Batches\).*module:function.*workers=1"
    ):
        share_inputs(small_model(), data_of(module.Batches()), ())
