"""Models to prune, and what their masks should be."""

import keras
import numpy as np
from keras import layers

import penjing

X = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


Y = np.zeros((4, 2), "float32")


def three_layers():
    return keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(20, name="first"),
            layers.Dense(12, name="second"),
            layers.Dense(2, name="head"),
        ],
        name="net",
    )


def array(value):
    return keras.ops.convert_to_numpy(value).copy()


def advanced(pruned, steps=1, x=X):
    """`pruned` after training batches that only compute masks."""
    for _ in range(steps):
        pruned(x, training=True)
    return pruned


def weights(model):
    """Name of the owner -> its first weight."""
    return {layer.name: array(layer.weights[0]) for layer in model.layers}


def stripped_weights(pruned):
    return weights(penjing.strip(pruned))


def kept_first(scores, k):
    """The twin of a mask: a stable sort, highest first, ties by index."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.ravel(), kind="stable")[:k]] = True
    return mask.reshape(scores.shape)


def check_masks(pruned, model, kept, scores=np.abs):
    """Each weight equals the given one with all but its `kept` best at zero."""
    before = weights(model)
    for name, after in stripped_weights(pruned).items():
        mask = kept_first(scores(before[name]), kept[name])
        np.testing.assert_array_equal(after, np.where(mask, before[name], 0))


def compressed_rows(model):
    rows = penjing.sparsity_report(model).rows
    return [row for row in rows if row.status == "compressed"]


def matrices(model):
    """Kernels as (inputs, outputs), the input channel fastest along the inputs."""
    result = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        kernel = array(layer.kernel)
        if "Transpose" in type(layer).__name__:
            kernel = np.moveaxis(kernel, -2, -1)
        result[layer.name] = kernel.reshape(-1, kernel.shape[-1])
    return result


def convolutional():
    return keras.Sequential(
        [
            layers.Input((5, 5, 4)),
            layers.Conv2D(6, 3, name="conv"),
            layers.Conv2DTranspose(4, 2, name="up"),
            layers.Flatten(),
            layers.Dense(3, name="head"),
        ]
    )


IMAGES = np.random.default_rng(1).normal(size=(2, 5, 5, 4)).astype("float32")


@keras.saving.register_keras_serializable(package="penjing_tests")
def smallest_first(values):
    return 1.0 / (1.0 + keras.ops.abs(values))


def every_value(model):
    return [array(variable.value) for variable in model.variables]
