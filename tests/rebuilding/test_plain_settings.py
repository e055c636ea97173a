"""What a user has set for Keras is not the file's, and stays."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.rebuilding.test_litert_loading import convolutions

import penjing


@pytest.fixture
def other_settings():
    order = keras.config.image_data_format()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(order)


@pytest.mark.usefixtures("other_settings")
def test_a_file_becomes_what_it_is_under_other_settings(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(convolutions())
    model = penjing.load_litert(path)
    assert keras.config.dtype_policy().name == "mixed_float16"
    assert keras.config.image_data_format() == "channels_first"
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f4")
    given = keras.ops.convert_to_numpy(model(x))
    assert given.dtype == "float32"
    np.testing.assert_allclose(given, penjing.LiteRTModel(path).predict(x), atol=1e-5)
