"""Files with free sizes take those of examples, and are proven and timed with them."""

import keras
import numpy as np
import pytest

import penjing
from penjing.errors import DataError, FileFormatError
from penjing.runtime.interpreter import LiteRTModel
from penjing.specializing.data_sizes import at_sizes_of

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    inputs = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(9, 4)(inputs)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    path = tmp_path_factory.mktemp("sizes") / "texts.tflite"
    return penjing.export_litert(model, path)


IDS = np.random.default_rng(0).integers(0, 9, (8, 12)).astype("int32")


@pytest.mark.parametrize("inputs", [IDS, [IDS], {"ids": IDS}])
def test_a_copy_has_the_sizes_and_gives_the_same(texts, inputs):
    if isinstance(inputs, dict):
        inputs = {LiteRTModel(texts).inputs[0].name: IDS}
    with at_sizes_of(texts, inputs) as path:
        sized = LiteRTModel(path)
        assert sized.inputs[0].shape == (1, 12) and path.name == texts.name
        expected = LiteRTModel(texts).predict(IDS)
        np.testing.assert_array_equal(sized.predict(IDS), expected)
    assert not path.exists()


def test_files_without_free_sizes_are_left_alone(texts, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    known = penjing.export_litert(model, tmp_path / "known.tflite")
    for path, inputs in ((known, np.zeros((2, 3), "f4")), (texts, None)):
        with at_sizes_of(path, inputs) as found:
            assert found == path


def test_what_does_not_fit_is_refused(texts, tmp_path):
    with pytest.raises(DataError, match="shape"), at_sizes_of(texts, IDS[0]):
        pass
    (tmp_path / "no.tflite").write_bytes(b"nothing")
    with pytest.raises(FileFormatError), at_sizes_of(tmp_path / "no.tflite", IDS):
        pass


def test_files_are_verified_at_the_sizes_of_the_inputs(texts):
    report = penjing.verify(texts, "x86", inputs=IDS, rounds=1)
    assert report.samples == 8 and report.python_difference < 1e-5
