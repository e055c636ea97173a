"""What `compress` refuses before it begins, and the folder that it makes."""

import keras
import numpy as np
import pytest

from penjing.errors import CompressionError
from penjing.pipeline.compression import compress

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (7, "`model` must be a Keras 3 model .* got an object of type int"),
        (keras.Sequential([keras.layers.Dense(2)], name="net"), "'net' is not built"),
    ],
)
def test_what_is_no_built_model_is_refused_before_data_is_read(model, message):
    with pytest.raises(CompressionError, match=message):
        compress(model, "no-such-file.npz", out="nowhere")


def test_an_impossible_module_is_refused_before_anything_is_written(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    pair = np.zeros((4, 2)), np.zeros((4, 2))
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no_such_module"):
        compress(model, (pair, pair), out=out, imports=["no_such_module"])
    assert not out.exists()
