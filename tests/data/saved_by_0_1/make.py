"""Makes the files of this folder with the code that is to stay readable.

They were made at commit 41b0cbe, with Keras 3.15.1 on the TensorFlow backend:

    cd CHECKOUT_OF_41b0cbe
    KERAS_BACKEND=tensorflow PYTHONPATH=src:PATH_OF_THIS_CHECKOUT \\
        python -m tests.data.saved_by_0_1.make

They are never made again: `tests/integration/test_saved_files.py` proves that later
code reads them. Its classes of a user's own come from here too.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import penjing
from penjing import pipeline, tfmot

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


def save_small(model: keras.Model, path: Path) -> None:
    """Save as `.keras` and compress the members."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def make_models(folder: Path) -> None:
    """The models, what they compute, and how they go on."""
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {}
    for name, make in MODELS.items():
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        model = compile_and_fit(make())
        x = inputs_for(getattr(model, "model", model))[0][:6]
        stripped = penjing.strip(model)
        arrays[f"{name}/outputs"] = keras.ops.convert_to_numpy(model(x, training=False))
        for number, value in enumerate(values(stripped)):
            arrays[f"{name}/stripped/{number}"] = value
        if name not in GOING_ON:
            model.compiled = False
        save_small(model, folder / f"{name}.keras")
        loaded = keras.saving.load_model(folder / f"{name}.keras")
        facts[name] = {"class": type(loaded).__name__, "weights": describe(loaded)}
        if name == "polynomial":
            model.save_weights(folder / f"{name}.weights.h5")
        if name == "two_of_four":
            save_small(stripped, folder / f"{name}.stripped.keras")
        if name in AS_H5:
            model.save(folder / f"{name}.h5", include_optimizer=False)
        if name in GOING_ON:
            go_on(model, 2)
            for number, value in enumerate(values(penjing.strip(model))):
                arrays[f"{name}/later/{number}"] = value
    np.savez_compressed(folder / "expected.npz", allow_pickle=False, **arrays)
    write_json(folder / "expected.json", facts)


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


def make_objects(folder: Path) -> None:
    """Values as Keras and `Schedule.to_json` write them."""
    made = make_values()
    write_json(
        folder / "serialized.json",
        {name: keras.saving.serialize_keras_object(v) for name, v in made.items()},
    )
    schedules = {k: v for k, v in made.items() if isinstance(v, penjing.Schedule)}
    write_json(
        folder / "schedules.json", {k: v.to_json() for k, v in schedules.items()}
    )


def registered_names() -> list[str]:
    """Names under which Keras knows penjing's classes."""
    known = keras.saving.get_custom_objects()
    return sorted(name for name in known if name.startswith("penjing"))


def public_names() -> list[str]:
    """What `penjing`, `penjing.pipeline` and the packages of `penjing.tfmot` export."""
    modules = [penjing, penjing.pipeline, tfmot]
    for module in modules:  # grows
        inner = (getattr(module, n, None) for n in getattr(module, "__all__", ()))
        modules += [
            value
            for value in inner
            if inspect.ismodule(value) and value.__name__.startswith(tfmot.__name__)
        ]
    names = {f"{m.__name__}.{name}" for m in modules for name in m.__all__}
    apart = {"compress", "pipeline", "tfmot"}  # loaded when used
    return sorted(names | {f"penjing.{name}" for name in apart})


def make_names(folder: Path) -> None:
    """Names that programs and files use."""
    write_json(folder / "public.json", public_names())
    write_json(folder / "registered.json", registered_names())


# Between them they have every key that recipes know.
RECIPES = {
    "all_methods": """\
name = "all methods"
description = "Pruned, clustered, rounded"

[training]
epochs = 3
minimum_steps = 40
batch_size = 16
optimizer = "adamw"
learning_rate = 1e-3
learning_rate_schedule = "constant"
warmup = 0.1
loss = {name = "SparseCategoricalCrossentropy", from_logits = true}
metrics = ["accuracy"]

[[methods]]
method = "prune"
scope = "layer"
allocation = "erk"
importance = "lamp"
include = ["hidden*", "*/kernel"]
exclude = ["head"]
keep_at_least = 20
l1 = 1e-5
pattern = {kind = "block", rows = 4, columns = 1, pooling = "max"}
sparsity_by_layer = {"hidden*" = 0.25}

[methods.schedule]
kind = "polynomial"
initial_sparsity = 0.25
final_sparsity = 0.75
begin = 0.1
end = 0.6
power = 2
frequency = 5

[[methods]]
method = "cluster"
num_clusters = 8
initialization = "linear"
granularity = "per_channel"
preserve_sparsity = false
include = ["hidden*"]
exclude = ["head"]

[[methods]]
method = "quantize_aware"
bits = 6
levels = 31
granularity = "per_tensor"
activations = "int8"
learn_scale = false
begin = 0.5
levels_by_layer = {"head" = 63}
include = ["*"]
exclude = ["norm"]

[export]
quantizations = ["int8", "dynamic", "float16", "int16x8", "int4", "int8x4"]
finish = "smallest"
observer = "percentile"
""",
    "channels": """\
[training]
loss = "mse"

[[methods]]
method = "prune_channels"
macs = 0.25
importance = "taylor"
scope = "layer"
round_to = 4
min_channels = 2
include = ["conv*"]
exclude = ["head"]
steps = 2
epochs_before = 1
recovery_epochs = 2
group_lasso = 0.02
learning_rate = 0.002
distillation = 0.5
temperature = 2
batch_norm_batches = 10

[[methods]]
method = "prune"
schedule = {kind = "constant", final_sparsity = 0.5, begin = 0.2}
pattern = {kind = "nm", n = 2, m = 4}
""",
    "latency": """\
[[methods]]
method = "prune_channels"
latency = "0.5 ms"

[[methods]]
method = "prune"
scope = "global"
schedule = {kind = "one_shot", final_sparsity = 0.5, begin = 0.5}

[export]
quantizations = ["float32", "int4_weight_only"]
""",
    "parameters": """\
[[methods]]
method = "prune_channels"
parameters = 5000

[[methods]]
method = "prune"
schedule = {kind = "cosine", final_sparsity = 0.5, end = 0.9}
""",
    "ratio": """\
[[methods]]
method = "prune_channels"
ratio = 0.5
""",
}


def make_recipes(folder: Path) -> None:
    """Recipes with every key, and what they were read as; the packaged ones too."""
    for name, text in RECIPES.items():
        (folder / f"{name}.toml").write_text(text, "utf-8")
    for name in pipeline.packaged_recipes():
        text = pipeline.recipe_to_toml(pipeline.load_recipe(name))
        (folder / f"packaged-{name}.toml").write_text(text, "utf-8")
    read = {
        path.stem: pipeline.load_recipe(path).to_dict()
        for path in sorted(folder.glob("*.toml"))
    }
    write_json(folder / "read.json", read)


class StoppedError(Exception):
    """Raised in place of a kill."""


def stop_at(stage: str, done: int = 0) -> Callable[[penjing.Progress], None]:
    """A listener that ends a run in a stage, after some of its steps."""

    def listen(event: penjing.Progress) -> None:
        if event.stage.startswith(stage) and (event.done or 0) >= done:
            raise StoppedError

    return listen


def silent(event: penjing.Progress) -> None:
    """A listener that lets everything pass."""


RUN_RECIPE = """\
name = "run"

[training]
epochs = 12
batch_size = 1
learning_rate = 0.002

[[methods]]
method = "prune"
schedule = {final_sparsity = 0.75, end = 0.95, frequency = 7}
pattern = {kind = "block", rows = 2, columns = 1}

[[methods]]
method = "quantize_aware"
levels = 31
begin = 0.2
"""
CUTS_RECIPE = """\
name = "cuts"

[training]
epochs = 1
batch_size = 8

[[methods]]
method = "prune_channels"
ratio = 0.5
round_to = 1
steps = 2
recovery_epochs = 1
"""


def compress(folder: Path, recipe: str, out: Path, listen: Any) -> Any:
    """Run `penjing.compress` on the model and the data of a folder."""
    return penjing.compress(
        folder / "start.keras",
        folder / "data.npz",
        folder / f"{recipe}.toml",
        out=out,
        progress=listen,
    )


def make_runs(folder: Path) -> None:
    """A run that is finished, the same one stopped in its training, one in its cuts."""
    keras.utils.set_random_seed(1)
    model = dense()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    save_small(model, folder / "start.keras")
    x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
    y = x[:, :3].argmax(-1).astype("int32")
    arrays = {"x_train": x, "y_train": y, "x_test": x[:32], "y_test": y[:32]}
    np.savez_compressed(folder / "data.npz", allow_pickle=False, **arrays)
    (folder / "run.toml").write_text(RUN_RECIPE, "utf-8")
    (folder / "cuts.toml").write_text(CUTS_RECIPE, "utf-8")
    compress(folder, "run", folder / "finished", silent)
    # Training is saved every 1,000 batches at most: here after 10 epochs.
    with contextlib.suppress(StoppedError):
        compress(folder, "run", folder / "stopped", stop_at("Training", 1000))
    with contextlib.suppress(StoppedError):
        compress(folder, "cuts", folder / "cuts", stop_at("Recovering 2"))
    with contextlib.suppress(StoppedError):
        compress(folder, "cuts", folder / "expected", stop_at("Exporting"))
    shutil.copy(folder / "expected" / "model.keras", folder / "cuts.keras")
    shutil.rmtree(folder / "expected")


def measure_sensitivity(path: Path, listen: Any) -> Any:
    """What two layers of the runs' first model lose, each at two ratios."""
    model = keras.saving.load_model(FOLDER / "runs" / "start.keras")
    with np.load(FOLDER / "runs" / "data.npz", allow_pickle=False) as arrays:
        data = arrays["x_train"], arrays["y_train"]
    return penjing.sensitivity(
        model,
        data,
        method="weights",
        ratios=(0.25, 0.75),
        path=path,
        progress=listen,
    )


def make_tables(folder: Path) -> None:
    """Tables that programs keep: sensitivities, channels, times of layers."""
    with contextlib.suppress(StoppedError):
        measure_sensitivity(
            folder / "sensitivity-stopped.json", stop_at("Measuring", 2)
        )
    measure_sensitivity(folder / "sensitivity.json", silent)
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = convolutional()
    smaller = penjing.prune_channels(model, ratio=0.5, round_to=1)
    report = penjing.channel_report(model, smaller).to_dict()
    write_json(folder / "channels.json", report)
    make_times(folder)


def make_times(folder: Path) -> None:
    """What the kept times of layers are called, and a latency model made of them."""
    from penjing.measurement import latency_cache

    described: dict[str, Any] = {}
    key = latency_cache._key

    def note(description: Any) -> str:
        described[key(description)] = dict(description)
        return key(description)

    latency_cache._key = note
    with tempfile.TemporaryDirectory() as cache:
        made = penjing.build_latency_model(dense(), cache_dir=cache, progress=False)
        (kept,) = Path(cache).iterdir()
        times = json.loads(kept.read_text("utf-8"))
    latency_cache._key = key
    rows = []
    for name, milliseconds in times.items():
        description = described[name]
        del description["runtime"], description["processor"]  # of this machine
        rows.append({"description": description, "milliseconds": milliseconds})
    content = {"file": kept.name, "times": rows, "model": made.to_dict()}
    (folder / "times.json").write_text(json.dumps(content) + "\n", "utf-8")


def write_json(path: Path, content: Any) -> None:
    """One line for each entry of the outermost level, for short diffs."""
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def main() -> None:
    """Make all, or the parts that are named."""
    parts = {
        "models": make_models,
        "objects": make_objects,
        "names": make_names,
        "recipes": make_recipes,
        "runs": make_runs,
        "tables": make_tables,
    }
    for name in sys.argv[1:] or parts:
        folder = FOLDER / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        parts[name](folder)


if __name__ == "__main__":
    main()
