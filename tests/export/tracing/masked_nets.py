"""Attention with masks of all kinds, small."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

TOKENS, STEPS, WIDTH = 30, 8, 16
_RNG = np.random.default_rng(0)
_LENGTHS = _RNG.integers(2, STEPS + 1, 60)
# Ids, with zeros behind the end of each sequence.
IDS = _RNG.integers(1, TOKENS, (60, STEPS)) * (np.arange(STEPS) < _LENGTHS[:, None])
IDS = IDS.astype("int32")


@keras.saving.register_keras_serializable(package="tests")
class Positions(layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="glorot_uniform")

    def call(self, x):
        return x + self.table


def embedded(ids):
    start = keras.initializers.RandomNormal(stddev=1.0, seed=1)
    return Positions()(layers.Embedding(TOKENS, WIDTH, start)(ids))


@keras.saving.register_keras_serializable(package="tests")
class MaskedAttention(layers.Layer):
    """As in many a tutorial."""

    def __init__(self, style, **kwargs):
        super().__init__(**kwargs)
        self.style = style
        self.query, self.key = layers.Dense(WIDTH), layers.Dense(WIDTH)

    def build(self, shape):
        self.query.build(shape)
        self.key.build(shape)

    def call(self, x):
        scores = ops.matmul(self.query(x), ops.transpose(self.key(x), (0, 2, 1)))
        past = np.tril(np.ones((STEPS, STEPS), "float32"))
        if self.style == "large scores":
            scores = scores * 5 - 100
        if self.style == "infinite":
            scores = ops.where(past > 0, scores, -np.inf)
        elif self.style == "all masked":
            past[-1] = 0  # the last step sees nothing: uniform, but for a small fill
            scores = 4 * scores - (1 - past) * 1e9
        else:
            scores = scores + (1 - past) * -1e9
        return ops.matmul(ops.softmax(scores), x)

    def get_config(self):
        return {**super().get_config(), "style": self.style}
