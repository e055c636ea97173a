"""A baseline at chance level stops a run before it begins."""

import keras
import numpy as np
import pytest

from penjing.data.data_sources import UserData
from penjing.errors import CompressionError
from penjing.pipeline.inputs.baseline_check import check_baseline

pytestmark = pytest.mark.once


def images(count=120, white=255.0):
    """Dark and bright images, and which they are."""
    y = np.arange(count, dtype=np.int32) % 2
    x = np.where(y, 0.8, 0.3)[:, None] * np.full((count, 4), white)
    return x.astype(np.float32), y


def model_of_fractions():
    """Right on pixels from 0 to 1; from 0 to 255 all is bright."""
    layer = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((4,)), layer], name="net")
    layer.set_weights([np.array([[0, 1]] * 4), np.array([0, -2.2])])
    return model


def data_of(part, **more):
    return UserData(train=part, test=part, source="images in x", **more)


def test_another_range_of_pixels_that_fits_is_named():
    data = data_of(images(), pixel_maximum=255.0)
    with pytest.raises(CompressionError) as refusal:
        check_baseline(data, model_of_fractions())
    for part in (
        "'net' gives the same answer for all 120 test examples",
        "chance level",
        "With pixels from 0 to 1 it finds 100.0%",
        "--pixels 0-1",
        "--accept-baseline",
    ):
        assert part in str(refusal.value)


def test_a_model_that_knows_its_data_passes():
    data = data_of(images(white=1.0), pixel_maximum=1.0)
    check_baseline(data, model_of_fractions())
    check_baseline(data_of(images(white=1.0)), model_of_fractions())


def test_a_model_above_chance_in_the_wrong_range_is_refused_too():
    x, y = images()
    x[:60] = np.where(y[:60, None], 255.0, 0.001)  # found in both ranges
    data = data_of((x, y), pixel_maximum=255.0)
    with pytest.raises(
        CompressionError, match=r"With pixels from 0 to 1 it finds"
    ) as e:
        check_baseline(data, model_of_fractions())
    assert "chance level" not in str(e.value)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return images(30)


@pytest.mark.parametrize("part", [images(), Batches()])
def test_arrays_and_loaders_without_known_pixels_name_the_usual_causes(part):
    with pytest.raises(
        CompressionError, match="Usual causes: the model is not trained"
    ):
        check_baseline(data_of(part), model_of_fractions())


def test_batches_of_a_fixed_size_are_kept():
    layer = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((4,), batch_size=7), layer])
    layer.set_weights([np.array([[0, 1]] * 4), np.array([0, -2.2])])
    check_baseline(data_of(images(white=1.0)), model)


def test_several_outputs_and_regressions_pass():
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(2, name=name)(inputs) for name in "ab"]
    x, y = images()
    check_baseline(data_of((x, {"a": y, "b": y})), keras.Model(inputs, outputs))
    check_baseline(
        data_of((x, x)), keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    )
