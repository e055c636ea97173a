"""How activations are rounded, as a value."""

from __future__ import annotations

import keras
from tests.engine.activation_cases import once

from penjing import ActivationConfig


@once
def test_config_survives_json():
    config = ActivationConfig(learn_ranges=False, calibrated=True, begin_step=4)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(config)
    )
    assert again == config
