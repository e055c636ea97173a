"""Models to prune by the names of tfmot, and their training."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from penjing import tfmot

sparsity = tfmot.sparsity.keras


@keras.saving.register_keras_serializable("penjing.tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.body = layers.Dense(4, name="body")
        self.head = layers.Dense(2, name="head")

    def build(self, input_shape):
        self.body.build(input_shape)
        self.head.build((None, 4))

    def call(self, inputs):
        return self.head(self.body(inputs))


def dense_model():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="body"),
            layers.Dense(2, name="head"),
        ],
        name="small",
    )


def data(count=32, inputs=6, outputs=2):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, inputs)).astype("float32")
    return x, x[:, :outputs] * 2.0


def train(model, epochs=1, **settings):
    x, y = data()
    settings.setdefault("callbacks", [sparsity.UpdatePruningStep()])
    model.fit(x, y, batch_size=4, epochs=epochs, verbose=0, shuffle=False, **settings)


def compiled(model, momentum=0.9):
    optimizer = keras.optimizers.SGD(0.05, momentum=momentum)
    model.compile(optimizer, keras.losses.MeanSquaredError())
    return model


def arrays(model):
    return [np.asarray(ops.convert_to_numpy(weight)) for weight in model.weights]


def summary_of(model):
    """Lines of `summary()` that tell layers and parameters."""
    lines = []
    model.summary(print_fn=lambda text, line_break=True: lines.append(text))
    text = "\n".join(lines)
    return text[: text.index("Non-trainable params")]
