"""Classes of a user's own, in a module that a converting process can import."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("custom_layers")
class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


@keras.saving.register_keras_serializable("custom_layers")
def bent(x):
    return keras.ops.maximum(x, 0.1 * x)
