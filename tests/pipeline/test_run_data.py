import warnings

import keras
import pytest
from tests.data.test_image_folders import fill

from penjing.errors import CompressionWarning
from penjing.pipeline.run_data import as_user_data

pytestmark = pytest.mark.once


def image_model(*first):
    return keras.Sequential(
        [keras.Input((4, 6, 3)), *first, keras.layers.Flatten(), keras.layers.Dense(2)]
    )


def test_a_model_that_divides_by_255_is_told_of_images_from_0_to_1(tmp_path):
    folder = fill(tmp_path)
    inner = keras.Sequential([keras.layers.Rescaling(1 / 255, name="to_one")])
    with pytest.warns(CompressionWarning, match="`?to_one.*pixel_maximum=255"):
        as_user_data(folder, image_model(inner), seed=0)


def test_other_models_and_data_are_read_without_a_word(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_user_data(fill(tmp_path), image_model(keras.layers.Rescaling(2.0)), seed=0)
