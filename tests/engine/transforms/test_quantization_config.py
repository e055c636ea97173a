"""The settings of `quantize_aware` as a value."""

from __future__ import annotations

import json

import keras
import pytest
from tests.engine.grid_cases import FEW, scales
from tests.engine.small_net import net

from penjing import Grid, QuantizationConfig
from penjing.engine.quantization import apply_quantization


@pytest.mark.once
def test_config_survives_json():
    config = QuantizationConfig(
        weights=FEW,
        learn_scale=False,
        begin_step=7,
        include="head",
        exclude=["hidden"],
        grids_by_layer={"head": Grid(bits=4)},
    )
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(config)))
    )
    assert again.get_config() == config.get_config()
    assert again.grids_by_layer == {"head": Grid(bits=4)}
    quantized = apply_quantization(net(), again)
    assert set(scales(quantized)) == {"net/head/kernel"}
