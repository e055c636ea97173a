import warnings

import keras
import pytest
from tests.data.test_image_folders import fill

from penjing.errors import CompressionWarning
from penjing.pipeline.inputs.run_data import as_user_data

pytestmark = pytest.mark.once


def image_model(*first):
    return keras.Sequential(
        [keras.Input((4, 6, 3)), *first, keras.layers.Flatten(), keras.layers.Dense(2)]
    )


def test_a_model_that_divides_by_255_is_told_of_images_from_0_to_1(tmp_path):
    folder = fill(tmp_path)
    inner = keras.Sequential([keras.layers.Rescaling(1 / 255, name="to_one")])
    with pytest.warns(CompressionWarning, match="`?to_one.*--pixels 0-1"):
        as_user_data(folder, image_model(inner), seed=0, pixels="0-1")


def test_images_are_read_from_0_to_255_unless_asked_otherwise(tmp_path):
    model = image_model(keras.layers.Rescaling(1 / 255))
    folder = fill(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data, _ = as_user_data(folder, model, seed=3)
        scaled, _ = as_user_data(folder, image_model(), seed=3, pixels="0-1")
    assert data.train[0].max() == 255.0 and scaled.train[0].max() == 1.0
    assert data.notes == (
        "pixels are read from 0 to 255",
        "20 % of each class folder, chosen by the seed 3, are the test part",
    )


def test_other_pixels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`pixels` must be one of '0-255', '0-1', got"):
        as_user_data(fill(tmp_path), image_model(), seed=0, pixels="0-2")
