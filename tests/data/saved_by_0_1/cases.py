"""Models, and classes of a user's own, that the files of this folder hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import penjing
from penjing import tfmot

FOLDER = Path(__file__).parent
BATCH, STEPS = 8, 4


@keras.saving.register_keras_serializable(package="saved_files")
class Squares(keras.Model):
    """A subclassed model: code of its own between two layers."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(8, name="first")
        self.last = keras.layers.Dense(3, name="last")

    def build(self, input_shape: Any) -> None:
        """Build both layers."""
        self.first.build(input_shape)
        self.last.build((input_shape[0], 8))

    def call(self, inputs: Any) -> Any:
        """Squares, then a sum."""
        return self.last(keras.ops.square(self.first(inputs)))


@keras.saving.register_keras_serializable(package="saved_files")
def squared_scores(weight: Any) -> Any:
    """An importance of a user's own."""
    return keras.ops.square(weight)


@keras.saving.register_keras_serializable(package="saved_files")
class FourBits(tfmot.quantization.keras.QuantizeConfig):
    """A description of a user's own: weights of four bits, one scale."""

    def __init__(self, quantizer: Any = None) -> None:
        kinds = tfmot.quantization.keras.quantizers
        self.quantizer = quantizer or kinds.LastValueQuantizer(4, False, True, True)

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """The kernel."""
        return [(layer.kernel, self.quantizer)]

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """None."""
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        """Never called."""

    def set_quantize_activations(self, layer: Any, activations: list[Any]) -> None:
        """Never called."""

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """The same grid as all others have."""
        kinds = tfmot.quantization.keras.quantizers
        return [kinds.MovingAverageQuantizer(8, False, False, False)]

    def get_config(self) -> dict[str, Any]:
        """The quantizer, serialized by Keras."""
        return {"quantizer": keras.saving.serialize_keras_object(self.quantizer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FourBits:
        """Config from the dictionary that `get_config` gave."""
        return cls(keras.saving.deserialize_keras_object(config["quantizer"]))


def make_data(shape: tuple[int, ...] = (8,)) -> tuple[np.ndarray, np.ndarray]:
    """Four batches of inputs and labels."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS, *shape)).astype("float32")
    return x, (x.reshape(len(x), -1)[:, :3]).argmax(-1).astype("int32")


def dense() -> keras.Model:
    """Two dense layers."""
    return keras.Sequential(
        [
            keras.Input((8,), name="features"),
            keras.layers.Dense(12, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="head"),
        ],
        name="dense",
    )


def convolutional() -> keras.Model:
    """Convolutions with normalization, around a sum."""
    inputs = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    y = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = keras.layers.Add(name="sum")([x, y])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x), name="images")


def recurrent() -> keras.Model:
    """Embeddings and an LSTM."""
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32", name="words"),
            keras.layers.Embedding(9, 6, name="embedding"),
            keras.layers.LSTM(5, name="lstm"),
            keras.layers.Dense(3, name="head"),
        ],
        name="texts",
    )


def subclassed() -> keras.Model:
    """A model that runs code of its own."""
    model = Squares(name="squares")
    model.build((None, 8))
    return model


def ramp(**steps: int) -> penjing.PolynomialDecay:
    """A schedule that is not over when the files are saved."""
    return penjing.PolynomialDecay(
        **{"begin_step": 1, "end_step": 14, "frequency": 3, **steps},
        initial_sparsity=0.25,
        final_sparsity=0.75,
    )


def _cosine_blocks() -> keras.Model:
    return penjing.prune(
        convolutional(),
        penjing.CosineDecay(
            initial_sparsity=0.1,
            final_sparsity=0.5,
            begin_step=0,
            end_step=9,
            frequency=2,
        ),
        pattern=penjing.Block(2, 2, pooling="max"),
        sparsity_by_layer={"head": 0.25},
        exclude=["norm"],
    )


def _global_with_penalty() -> keras.Model:
    return penjing.prune(
        recurrent(),
        penjing.ConstantSparsity(0.6, begin_step=2, end_step=30, frequency=2),
        scope="global",
        importance="lamp",
        l1=1e-3,
    )


def _rounded_images() -> keras.Model:
    return penjing.quantize_aware(
        convolutional(),
        activations="int8",
        calibration_data=make_data((6, 6, 2))[0],
        observer="mse",
    )


def _all_methods() -> keras.Model:
    pruned = penjing.prune(dense(), ramp(), allocation="erk")
    clustered = penjing.cluster(pruned, 6, granularity="per_tensor")
    return penjing.quantize_aware(clustered, activations="int8", begin_step=2)


def _single_layers() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8,)),
            penjing.prune_layer(
                keras.layers.Dense(12, activation="relu", name="hidden"), ramp()
            ),
            keras.layers.Dense(3, name="head"),
        ],
        name="single",
    )


def _grids_by_layer() -> keras.Model:
    return penjing.quantize_aware(
        dense(),
        weights=penjing.Grid(levels=15, granularity="per_tensor"),
        grids_by_layer={"head": penjing.Grid(bits=4)},
    )


def _moving_ranges() -> keras.Model:
    return penjing.quantize_aware(
        dense(),
        activations=penjing.Grid(granularity="per_tensor", symmetric=True),
        learn_scale=False,
        begin_step=1,
    )


def _annotated() -> keras.Model:
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    return keras.Sequential(
        [
            keras.Input((8,)),
            annotate(
                keras.layers.Dense(12, activation="relu", name="hidden"), FourBits()
            ),
            annotate(keras.layers.Dense(3, name="head")),
        ],
        name="annotated",
    )


def _with_zeros() -> keras.Model:
    model = dense()
    for layer in model.layers:
        kernel = np.array(layer.kernel)
        kernel[np.abs(kernel) < 0.2] = 0
        layer.kernel.assign(kernel)
    return model


def _preserving(model: keras.Model, scheme: str) -> keras.Model:
    schemes = tfmot.experimental.combine
    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    return tfmot.quantization.keras.quantize_apply(
        annotated, getattr(schemes, f"Default8Bit{scheme}PreserveQuantizeScheme")()
    )


def _tfmot_ramp() -> Any:
    return tfmot.sparsity.keras.PolynomialDecay(0.2, 0.7, 1, 14, power=2, frequency=3)


def _tfmot_pruned(model: keras.Model, **options: Any) -> keras.Model:
    prune = tfmot.sparsity.keras.prune_low_magnitude
    return prune(model, **{"pruning_schedule": _tfmot_ramp(), **options})


def _tfmot_clustered() -> keras.Model:
    starts = tfmot.clustering.keras.CentroidInitialization
    return tfmot.clustering.keras.experimental.cluster_weights(
        _with_zeros(), 5, starts.DENSITY_BASED, preserve_sparsity=True
    )


MODELS: dict[str, Callable[[], keras.Model]] = {
    "polynomial": lambda: penjing.prune(dense(), ramp()),
    "cosine_blocks": _cosine_blocks,
    "two_of_four": lambda: penjing.prune(
        dense(), penjing.OneShot(0.5, step=2), pattern=penjing.NM(2, 4)
    ),
    "global_with_penalty": _global_with_penalty,
    "own_importance": lambda: penjing.prune(
        dense(), ramp(), importance=squared_scores, include=["hidden"]
    ),
    "subclassed": lambda: penjing.prune(
        subclassed(), ramp(), importance="normalized_magnitude", scope="global"
    ),
    "single_layers": _single_layers,
    "clustered": lambda: penjing.cluster(dense(), 4, initialization="linear"),
    "clustered_channels": lambda: penjing.cluster(
        convolutional(), 3, granularity="per_channel", centroid_gradient="sum"
    ),
    "grids_by_layer": _grids_by_layer,
    "moving_ranges": _moving_ranges,
    "rounded_images": _rounded_images,
    "all_methods": _all_methods,
    "tfmot_pruned": lambda: _tfmot_pruned(dense()),
    "tfmot_two_of_four": lambda: _tfmot_pruned(
        dense(),
        pruning_schedule=tfmot.sparsity.keras.ConstantSparsity(0.5, 1, 20, 2),
        sparsity_m_by_n=(2, 4),
    ),
    "tfmot_blocks": lambda: _tfmot_pruned(
        convolutional(), block_size=(2, 2), block_pooling_type="MAX"
    ),
    "tfmot_subclassed": lambda: _tfmot_pruned(subclassed()),
    "tfmot_clustered": _tfmot_clustered,
    "tfmot_clustered_channels": lambda: tfmot.clustering.keras.cluster_weights(
        convolutional(), 3, cluster_per_channel=True
    ),
    "tfmot_annotated": _annotated,
    "tfmot_quantized": lambda: tfmot.quantization.keras.quantize_model(convolutional()),
    "tfmot_quantized_sparse": lambda: _preserving(_with_zeros(), "Prune"),
    "tfmot_quantized_clustered": lambda: _preserving(
        penjing.strip(penjing.cluster(dense(), 4)), "Cluster"
    ),
}
# Saved with their optimizer, so that training goes on; the others without.
GOING_ON = ("polynomial", "clustered", "tfmot_pruned")
AS_H5 = ("tfmot_pruned", "tfmot_clustered", "tfmot_quantized")


def inputs_for(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Data of the model's input shape."""
    shape = tuple(getattr(model, "input_shape", None) or (None, 8))[1:]
    x, y = make_data(shape)
    if shape == (5,):  # words
        x = np.floor(np.abs(x) * 3).clip(0, 8).astype("int32")
    return x, y


def compile_and_fit(model: keras.Model, epochs: int = 1) -> keras.Model:
    """Train in a fixed order."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    go_on(model, epochs)
    return model


def go_on(model: keras.Model, epochs: int = 1) -> None:
    """Train a compiled model further, in a fixed order."""
    x, y = inputs_for(getattr(model, "model", model))
    callbacks = []
    if any(type(layer).__name__ == "PruneLowMagnitude" for layer in model.layers):
        callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]
    model.fit(
        *(x, y, BATCH), epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
    )


def values(model: keras.Model) -> list[np.ndarray]:
    """Values of all weights."""
    return [keras.ops.convert_to_numpy(v.value) for v in model.weights]


def describe(model: keras.Model) -> list[dict[str, Any]]:
    """What was done to each weight."""
    return [
        {
            "path": row.path,
            "zeros": row.zeros,
            "distinct": row.distinct,
            "status": row.status,
            "methods": list(row.methods),
        }
        for row in penjing.sparsity_report(model).rows
    ]


def make_values() -> dict[str, Any]:
    """One value of each registered class that is no layer, and what holds them."""
    kinds = tfmot.quantization.keras.quantizers
    sparse = tfmot.sparsity.keras
    grid = penjing.Grid(bits=4, levels=7, granularity="per_tensor")
    return {
        "constant": penjing.ConstantSparsity(0.5, begin_step=3, end_step=9),
        "polynomial": ramp(),
        "cosine": penjing.CosineDecay(final_sparsity=0.5, begin_step=0, end_step=9),
        "one_shot": penjing.OneShot(0.5, step=4),
        "unstructured": penjing.Unstructured(),
        "block": penjing.Block(4, 1, pooling="max"),
        "two_of_four": penjing.NM(2, 4),
        "grid": grid,
        "pruning": penjing.PruningConfig(
            schedule=ramp(),
            allocation="erk",
            pattern=penjing.Block(1, 4),
            importance=squared_scores,
            include=["conv*"],
            exclude=["*/bias"],
            sparsity_by_layer={"head": 0.25},
            l1=1e-4,
        ),
        "clustering": penjing.ClusteringConfig(
            num_clusters=5,
            initialization="density",
            granularity="per_channel",
            preserve_sparsity=False,
            centroid_gradient="sum",
            seed=3,
        ),
        "quantization": penjing.QuantizationConfig(
            weights=grid,
            learn_scale=False,
            begin_step=4,
            grids_by_layer={"head": penjing.Grid()},
        ),
        "activations": penjing.ActivationConfig(
            learn_ranges=False, calibrated=True, begin_step=2
        ),
        "tfmot_constant": sparse.ConstantSparsity(0.5, 2, 20, 5),
        "tfmot_polynomial": sparse.PolynomialDecay(0.1, 0.6, 2, 20, 2.0, 5),
        "last_value": kinds.LastValueQuantizer(8, True, True, True),
        "moving_average": kinds.MovingAverageQuantizer(8, False, False, False),
        "all_values": kinds.AllValuesQuantizer(8, False, True, False),
        "fixed": kinds.FixedQuantizer(8, -1.0, 1.0, True),
    }
