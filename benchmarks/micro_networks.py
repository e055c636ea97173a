"""Which networks run on microcontrollers, in which modes, and how right they are.

Eleven small networks of the kinds that are deployed there, untrained, on five modes.
Run: python benchmarks/micro_networks.py
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras import layers as L


def cnn():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Rescaling(1 / 255),
            L.Conv2D(16, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(32, 3, activation="relu", padding="same"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dropout(0.2),
            L.Dense(32, activation="relu"),
            L.Dense(10, activation="softmax"),
        ]
    )


def dilated():
    x = inputs = keras.Input((24, 24, 2))
    for rate in (1, 2, 4):
        x = L.Conv2D(8, 3, dilation_rate=rate, padding="same", activation="relu")(x)
    x = L.DepthwiseConv2D(3, dilation_rate=2, padding="valid")(x)
    x = L.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, L.Dense(4)(x))


def conv1d():
    x = inputs = keras.Input((64, 3))
    x = L.Conv1D(16, 5, strides=2, padding="same")(x)
    x = L.BatchNormalization()(x)
    x = L.ReLU()(x)
    x = L.MaxPooling1D()(x)
    x = L.Conv1D(16, 3, dilation_rate=2, padding="causal", activation="relu")(x)
    x = L.SeparableConv1D(16, 3, activation="relu")(x)
    x = L.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, L.Dense(5, activation="softmax")(x))


def ds_cnn():
    x = inputs = keras.Input((49, 10, 1))
    x = L.Conv2D(32, (10, 4), strides=2, padding="same", use_bias=False)(x)
    x = L.BatchNormalization()(x)
    x = L.ReLU()(x)
    for _ in range(3):
        x = L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = L.BatchNormalization()(x)
        x = L.ReLU()(x)
        x = L.Conv2D(32, 1, use_bias=False)(x)
        x = L.BatchNormalization()(x)
        x = L.ReLU()(x)
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, L.Dense(12, activation="softmax")(x))


def resnet():
    """Residual blocks with squeeze-and-excite, then back up to the input's size."""
    x = inputs = keras.Input((16, 16, 3))
    x = skip = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    for filters in (16, 24):
        short = L.Conv2D(filters, 1, strides=2)(x)
        x = L.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
        x = L.Conv2D(filters, 3, padding="same")(x)
        gate = L.GlobalAveragePooling2D(keepdims=True)(x)
        gate = L.Conv2D(filters, 1, activation="sigmoid")(gate)
        x = L.Activation("hard_swish")(L.Add()([L.Multiply()([x, gate]), short]))
    x = L.UpSampling2D(2, interpolation="bilinear")(x)
    x = L.UpSampling2D(2, interpolation="nearest")(x)
    x = L.Concatenate()([x, skip])
    return keras.Model(inputs, L.Conv2D(2, 3, padding="same", activation="sigmoid")(x))


def unet():
    x = inputs = keras.Input((16, 16, 1))
    x = skip = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    x = L.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu")(x)
    x = L.Concatenate()([x, skip])
    x = L.Cropping2D(1)(L.ZeroPadding2D(2)(x))
    return keras.Model(inputs, L.Conv2D(1, 1)(x))


def lstm():
    return keras.Sequential(
        [keras.Input((12, 6)), L.LSTM(16), L.Dense(4, activation="softmax")]
    )


def gru():
    return keras.Sequential(
        [
            keras.Input((12, 6)),
            L.GRU(12, return_sequences=True),
            L.GRU(8),
            L.Dense(4, activation="softmax"),
        ]
    )


def bidirectional():
    inputs = keras.Input((10,), dtype="int32")
    x = L.Embedding(40, 8)(inputs)
    x = L.Bidirectional(L.LSTM(8, return_sequences=True))(x)
    x = L.GlobalMaxPooling1D()(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax")(x))


def transformer():
    x = inputs = keras.Input((16, 8))
    x = L.Dense(16)(x)
    for _ in range(2):
        y = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(2, 8)(y, y)])
        y = L.LayerNormalization()(x)
        y = L.Dense(16)(L.Dense(32, activation="gelu")(y))
        x = L.Add()([x, y])
    x = L.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, L.Dense(6, activation="softmax")(x))


def siamese():
    """Two inputs through the same layers, and their distance."""
    shared = keras.Sequential(
        [L.Dense(24, activation="leaky_relu"), L.Dense(12, activation="tanh")]
    )
    left, right = keras.Input((20,), name="left"), keras.Input((20,), name="right")
    a, b = shared(left), shared(right)
    x = keras.ops.abs(a - b)
    return keras.Model(
        [left, right], [L.Dense(1, activation="sigmoid")(x), L.Dot(1)([a, b])]
    )


