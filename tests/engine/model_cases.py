"""Tiny models of every architecture that the engine must train unchanged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

ROWS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A model to compress, data for one batch, and what must be pruned in it.

    Args:
        build: Makes the plain model.
        inputs: Shape of one row, or a function that makes the whole batch.
        outputs: Shape of one row of targets, or a function that makes the batch.
        pruned: Ends of the paths of the weights that pruning takes by default.
        skipped: End of a weight's path -> part of the reason why it is left whole.
        copy: Whether penjing can copy the model.
        losses: Whether the model adds losses of its own.
    """

    build: Callable[[], keras.Model]
    inputs: Any
    outputs: Any
    pruned: tuple[str, ...]
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    copy: bool = True
    losses: bool = False

    def batch(self) -> tuple[Any, Any]:
        """The same inputs and targets at every call."""
        rng = np.random.default_rng(0)
        return _rows(self.inputs, rng), _rows(self.outputs, rng)


def _rows(kind: Any, rng: np.random.Generator) -> Any:
    if callable(kind):
        return kind(rng)
    return rng.normal(size=(ROWS, *kind)).astype("float32")


def words(length: int) -> Callable[[np.random.Generator], Any]:
    """Word numbers 1 to 6, padded with zeros to rows of different lengths."""

    def make(rng: np.random.Generator) -> Any:
        numbers = rng.integers(1, 7, (ROWS, length)).astype("int32")
        return np.where(
            np.arange(length) < rng.integers(1, length, (ROWS, 1)), numbers, 0
        )

    return make


@keras.saving.register_keras_serializable(package="penjing_tests")
class TwoLayers(keras.Model):
    """Subclassed, with a config of its own."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = layers.Dense(units, activation="relu", name="hidden")
        self.head = layers.Dense(2, name="head")

    def build(self, input_shape: Any) -> None:
        self.hidden.build(input_shape)
        self.head.build((*input_shape[:-1], self.hidden.units))

    def call(self, inputs: Any) -> Any:
        return self.head(self.hidden(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.hidden.units}


class WithoutConfig(keras.Model):
    """Subclassed around a function, so that it cannot be made again."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function
        self.head = layers.Dense(4, name="head")
        self.extra = self.add_weight(shape=(3, 2), name="extra")

    def build(self, input_shape: Any) -> None:
        self.head.build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        factor = 2.0 if training else 1.0
        return self.function(self.head(inputs)) * factor + keras.ops.sum(self.extra)


def built(model: keras.Model, *shape: int) -> keras.Model:
    model.build((None, *shape))
    return model


def sequential(*stack: keras.layers.Layer, shape: tuple[Any, ...]) -> keras.Model:
    return keras.Sequential([layers.Input(shape), *stack])


def residual() -> keras.Model:
    inputs = layers.Input((4,))
    y = layers.Dense(4, activation="tanh", name="branch")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")(inputs + y) * 2.0)


def nested() -> keras.Model:
    inside = layers.Input((4,))
    inner = keras.Model(inside, layers.Dense(4, name="deep")(inside), name="inner")
    middle = keras.Sequential([layers.Input((4,)), inner, layers.ReLU()], name="middle")
    inputs = layers.Input((4,))
    return keras.Model(inputs, layers.Dense(2, name="head")(middle(inputs)))


def shared() -> keras.Model:
    first, second = layers.Input((4,)), layers.Input((4,))
    dense = layers.Dense(4, name="twice")
    difference = dense(first) - dense(second)
    return keras.Model([first, second], layers.Dense(1, name="head")(difference))


def words_to_class() -> keras.Model:
    return sequential(
        layers.Embedding(7, 4, mask_zero=True, name="words"),
        layers.Bidirectional(layers.LSTM(3, name="lstm"), name="both"),
        layers.Dense(2, name="head"),
        shape=(5,),
    )


def words_to_tags() -> keras.Model:
    return sequential(
        layers.Embedding(7, 4, mask_zero=True, name="words"),
        layers.SimpleRNN(3, return_sequences=True, name="rnn"),
        layers.Dense(2, name="head"),
        shape=(5,),
    )


def attention() -> keras.Model:
    query, value = layers.Input((4, 6)), layers.Input((3, 6))
    attended = layers.MultiHeadAttention(2, 3, name="mha")(query, value, key=value)
    return keras.Model([query, value], attended)


def many_inputs_and_outputs() -> keras.Model:
    inputs = {"a": layers.Input((4,), name="a"), "b": layers.Input((3,), name="b")}
    joined = layers.Concatenate()(list(inputs.values()))
    outputs = {
        "first": layers.Dense(2, name="first")(joined),
        "second": layers.Dense(4, name="second")(joined),
    }
    return keras.Model(inputs, outputs)


def partly_frozen() -> keras.Model:
    model = sequential(
        layers.Dense(4, name="frozen"), layers.Dense(2, name="head"), shape=(4,)
    )
    model.layers[0].trainable = False
    return model


def regularized() -> keras.Model:
    return sequential(
        layers.Dense(
            4,
            name="dense",
            kernel_regularizer="l2",
            bias_regularizer="l1",
            bias_initializer="ones",
            activity_regularizer=keras.regularizers.L1(0.1),
        ),
        layers.ActivityRegularization(l2=0.1),
        layers.Dense(2, name="head", kernel_regularizer="l1"),
        shape=(4,),
    )


def stacked_cells() -> keras.Model:
    cells = [layers.LSTMCell(3, name="lstm_cell"), layers.GRUCell(4, name="gru_cell")]
    return sequential(layers.RNN(cells, name="rnn"), shape=(3, 4))


def stateful() -> keras.Model:
    inputs = layers.Input(batch_shape=(ROWS, 3, 4))
    return keras.Model(inputs, layers.GRU(4, stateful=True, name="gru")(inputs))


def dense_pair(*first: str) -> tuple[str, ...]:
    return tuple(f"{name}/kernel" for name in (*first, "head"))


RECURRENT = ("kernel", "recurrent_kernel")
A_VECTOR = "a bias, a scale or another vector"

CASES: dict[str, Case] = {
    "sequential": Case(
        build=lambda: sequential(
            layers.Dense(8, activation="relu", name="dense"),
            layers.Dense(2, name="head"),
            shape=(4,),
        ),
        inputs=(4,),
        outputs=(2,),
        pruned=dense_pair("dense"),
        skipped={"dense/bias": A_VECTOR},
    ),
    "unbuilt_sequential": Case(
        build=lambda: keras.Sequential(
            [layers.Dense(8, name="dense"), layers.Dense(2, name="head")]
        ),
        inputs=(4,),
        outputs=(2,),
        pruned=dense_pair("dense"),
    ),
    "residual": Case(
        build=residual, inputs=(4,), outputs=(2,), pruned=dense_pair("branch")
    ),
    "nested": Case(build=nested, inputs=(4,), outputs=(2,), pruned=dense_pair("deep")),
    "subclassed": Case(
        build=lambda: built(TwoLayers(8), 4),
        inputs=(4,),
        outputs=(2,),
        pruned=dense_pair("hidden"),
    ),
    "subclassed_without_config": Case(
        build=lambda: built(WithoutConfig(keras.ops.tanh), 4),
        inputs=(4,),
        outputs=(4,),
        pruned=("head/kernel",),
        skipped={"extra": "register_layer_spec"},
        copy=False,
    ),
    "shared_layer": Case(
        build=shared,
        inputs=lambda rng: [rng.normal(size=(ROWS, 4)).astype("float32")] * 2,
        outputs=(1,),
        pruned=dense_pair("twice"),
    ),
    "embedding_bidirectional_lstm": Case(
        build=words_to_class,
        inputs=words(5),
        outputs=(2,),
        pruned=(
            "words/embeddings",
            *(
                f"{way}_lstm/lstm_cell/{w}"
                for way in ("forward", "backward")
                for w in RECURRENT
            ),
            "head/kernel",
        ),
    ),
    "masked_sequence_output": Case(
        build=words_to_tags,
        inputs=words(5),
        outputs=(5, 2),
        pruned=(
            "words/embeddings",
            *(f"rnn/simple_rnn_cell/{w}" for w in RECURRENT),
            "head/kernel",
        ),
    ),
    "gru": Case(
        build=lambda: sequential(layers.GRU(4, name="gru"), shape=(3, 4)),
        inputs=(3, 4),
        outputs=(4,),
        pruned=tuple(f"gru/gru_cell/{w}" for w in RECURRENT),
        skipped={"gru_cell/bias": "the table has no GRUCell.bias"},
    ),
    "stateful_gru": Case(
        build=stateful,
        inputs=(3, 4),
        outputs=(4,),
        pruned=tuple(f"gru/gru_cell/{w}" for w in RECURRENT),
    ),
    "stacked_cells": Case(
        build=stacked_cells,
        inputs=(3, 4),
        outputs=(4,),
        pruned=tuple(f"{cell}_cell/{w}" for cell in ("lstm", "gru") for w in RECURRENT),
    ),
    "attention": Case(
        build=attention,
        inputs=lambda rng: [
            rng.normal(size=(ROWS, n, 6)).astype("float32") for n in (4, 3)
        ],
        outputs=(4, 6),
        pruned=tuple(
            f"{name}/kernel" for name in ("query", "key", "value", "attention_output")
        ),
        skipped={"query/bias": "the table has no EinsumDense.bias"},
    ),
    "einsum_dense": Case(
        build=lambda: sequential(
            layers.EinsumDense("abc,cde->abde", (None, 2, 3), name="einsum"),
            shape=(2, 4),
        ),
        inputs=(2, 4),
        outputs=(2, 2, 3),
        pruned=("einsum/kernel",),
    ),
    "separable": Case(
        build=lambda: sequential(
            layers.SeparableConv2D(3, 2, name="two"),
            layers.Reshape((4, 3)),
            layers.SeparableConv1D(2, 2, name="one"),
            shape=(3, 3, 2),
        ),
        inputs=(3, 3, 2),
        outputs=(3, 2),
        pruned=("two/pointwise_kernel", "one/pointwise_kernel"),
        skipped={"two/depthwise_kernel": "small and sensitive"},
    ),
    "depthwise": Case(
        build=lambda: sequential(
            layers.DepthwiseConv2D(2, name="channels"),
            layers.Flatten(),
            layers.Dense(2, name="head"),
            shape=(3, 3, 2),
        ),
        inputs=(3, 3, 2),
        outputs=(2,),
        pruned=("head/kernel",),
        skipped={"channels/kernel": "small and sensitive"},
    ),
    "convolutions": Case(
        build=lambda: sequential(
            layers.Conv3D(2, 2, name="conv3"),
            layers.Reshape((2, 2, 4)),
            layers.Conv2D(3, 2, padding="same", name="conv2"),
            layers.Reshape((4, 3)),
            layers.Conv1D(2, 2, padding="causal", name="conv1"),
            shape=(3, 3, 3, 1),
        ),
        inputs=(3, 3, 3, 1),
        outputs=(4, 2),
        pruned=("conv3/kernel", "conv2/kernel", "conv1/kernel"),
    ),
    "transposed_convolutions": Case(
        build=lambda: sequential(
            layers.Conv1DTranspose(2, 2, name="up1"),
            layers.Reshape((2, 2, 2)),
            layers.Conv2DTranspose(3, 2, name="up2"),
            layers.Reshape((3, 3, 3, 1)),
            layers.Conv3DTranspose(2, 2, name="up3"),
            shape=(3, 2),
        ),
        inputs=(3, 2),
        outputs=(4, 4, 4, 2),
        pruned=("up1/kernel", "up2/kernel", "up3/kernel"),
    ),
    "time_distributed": Case(
        build=lambda: sequential(
            layers.TimeDistributed(layers.Dense(3, name="each"), name="times"),
            shape=(3, 4),
        ),
        inputs=(3, 4),
        outputs=(3, 3),
        pruned=("times/each/kernel",),
    ),
    "batch_normalization": Case(
        build=lambda: sequential(
            layers.Dense(4, name="dense"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="head"),
            shape=(4,),
        ),
        inputs=(4,),
        outputs=(2,),
        pruned=dense_pair("dense"),
        skipped={"norm/gamma": A_VECTOR, "norm/moving_mean": "frozen"},
    ),
    "dropout": Case(
        build=lambda: sequential(
            layers.Dense(8, name="dense"),
            layers.Dropout(0.5, seed=3),
            layers.Dense(2, name="head"),
            shape=(4,),
        ),
        inputs=(4,),
        outputs=(2,),
        pruned=dense_pair("dense"),
    ),
    "regularizers": Case(
        build=regularized,
        inputs=(4,),
        outputs=(2,),
        pruned=dense_pair("dense"),
        losses=True,
    ),
    "frozen_layer": Case(
        build=partly_frozen,
        inputs=(4,),
        outputs=(2,),
        pruned=("head/kernel",),
        skipped={"frozen/kernel": "frozen: it does not train"},
    ),
    "many_inputs_and_outputs": Case(
        build=many_inputs_and_outputs,
        inputs=lambda rng: {
            "a": rng.normal(size=(ROWS, 4)).astype("float32"),
            "b": rng.normal(size=(ROWS, 3)).astype("float32"),
        },
        outputs=lambda rng: {
            "first": rng.normal(size=(ROWS, 2)).astype("float32"),
            "second": rng.normal(size=(ROWS, 4)).astype("float32"),
        },
        pruned=("first/kernel", "second/kernel"),
    ),
    "unknown_spatial_size": Case(
        build=lambda: sequential(
            layers.Conv2D(3, 2, name="conv"),
            layers.GlobalAveragePooling2D(),
            shape=(None, None, 2),
        ),
        inputs=(4, 5, 2),
        outputs=(3,),
        pruned=("conv/kernel",),
    ),
    "float64_input": Case(
        build=lambda: sequential(layers.Dense(2, name="head"), shape=(4,)),
        inputs=lambda rng: rng.normal(size=(ROWS, 4)),
        outputs=(2,),
        pruned=("head/kernel",),
    ),
    "integer_input": Case(
        build=lambda: sequential(
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(2, name="head"),
            shape=(2, 2),
        ),
        inputs=lambda rng: rng.integers(0, 255, (ROWS, 2, 2)).astype("uint8"),
        outputs=(2,),
        pruned=("head/kernel",),
    ),
}
