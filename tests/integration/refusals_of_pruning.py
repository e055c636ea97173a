"""Refusals of schedules, patterns, pruning, stripping and the names of tfmot."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from tests.integration.refusal import (
    KerasTwoModel,
    Refusal,
    Unbuilt,
    poisoned,
    pruned,
    small,
)

import penjing
from penjing import (
    NM,
    Block,
    ConstantSparsity,
    OneShot,
    PolynomialDecay,
    UnsupportedModelError,
    prune,
    prune_layer,
    strip,
    strip_layer,
)

layers = keras.layers
half = OneShot(0.5)


def of_schedule(name: str, says: str, kind: Any, *args: Any, **kwargs: Any) -> Refusal:
    return Refusal(
        name=f"schedule: {name}",
        call=lambda bench: partial(kind, *args, **kwargs),
        error=ValueError,
        says=says,
        once=True,
    )


def ramp(**changes: Any) -> dict[str, Any]:
    return {"final_sparsity": 0.8, "begin_step": 0, "end_step": 100, **changes}


SCHEDULES = [
    of_schedule(
        "sparsity of 1",
        r"`sparsity` must be a number in \[0, 1\), got sparsity=1.0. It is the "
        "fraction of zeros",
        ConstantSparsity,
        1.0,
    ),
    of_schedule("percents", r"got sparsity=80. .. 0.8 for 80 %", OneShot, 80),
    of_schedule("negative", r"in \[0, 1\), got sparsity=-0.1", ConstantSparsity, -0.1),
    of_schedule("bool", "must be a number .. got sparsity=True", OneShot, True),
    of_schedule("NaN", "must be a number .. got sparsity=nan", OneShot, float("nan")),
    of_schedule("text", "must be a number .. got sparsity='0.5'", OneShot, "0.5"),
    of_schedule(
        "initial sparsity",
        "`initial_sparsity` must be .. got initial_sparsity=1.5",
        PolynomialDecay,
        **ramp(initial_sparsity=1.5),
    ),
    of_schedule(
        "begin equals end",
        "`end_step` must come after `begin_step`, got begin_step=100 and "
        "end_step=100. Steps count batches: epochs",
        PolynomialDecay,
        **ramp(begin_step=100),
    ),
    of_schedule(
        "never fires",
        "begin_step=9 and end_step=3: this schedule would never fire",
        ConstantSparsity,
        0.5,
        begin_step=9,
        end_step=3,
    ),
    of_schedule(
        "never ends",
        "`end_step` must come after `begin_step` .. end_step=None",
        penjing.CosineDecay,
        **ramp(end_step=None),
    ),
    of_schedule(
        "negative step",
        "`begin_step` must be an integer of at least 0, got begin_step=-1",
        PolynomialDecay,
        **ramp(begin_step=-1),
    ),
    of_schedule(
        "fraction of a step",
        "`end_step` must be an integer .. got end_step=99.5. Steps count",
        PolynomialDecay,
        **ramp(end_step=99.5),
    ),
    of_schedule(
        "frequency of 0",
        "`frequency` must be an integer of at least 1, got frequency=0",
        ConstantSparsity,
        0.5,
        frequency=0,
    ),
    of_schedule(
        "one shot at step 0",
        "`step` must be an integer of at least 1, got step=0",
        OneShot,
        0.5,
        step=0,
    ),
    of_schedule(
        "power of 0",
        "`power` must be a number above 0, got power=0. 1 is linear",
        PolynomialDecay,
        **ramp(power=0),
    ),
    of_schedule(
        "falls",
        "must not be below `initial_sparsity`, got initial_sparsity=0.9 and "
        "final_sparsity=0.8",
        PolynomialDecay,
        **ramp(initial_sparsity=0.9),
    ),
    of_schedule(
        "other JSON",
        "not the JSON of a registered schedule: 'no' .. must be imported",
        penjing.schedule_from_json,
        "no",
    ),
    of_schedule(
        "JSON of something else",
        "Expected a schedule, got dict",
        penjing.schedule_from_json,
        "{}",
    ),
    of_schedule(
        "block without rows",
        "`rows` of a block must be an integer of at least 1, got rows=0",
        Block,
        0,
        4,
    ),
    of_schedule(
        "pooling",
        "`pooling` must be 'mean' or 'max', got pooling='avg'",
        Block,
        4,
        1,
        pooling="avg",
    ),
    of_schedule(
        "n above m", r"0 < n < m, got n=4, m=2. NM\(2, 4\) keeps 2 of every 4", NM, 4, 2
    ),
    of_schedule("n a float", r"needs integers .. got n=2.0, m=4", NM, 2.0, 4),
]


def of_prune(
    name: str,
    says: str,
    error: type[Exception] = ValueError,
    model: Any = small,
    schedule: Any = half,
    **arguments: Any,
) -> Refusal:
    return Refusal(
        name=f"prune: {name}",
        call=lambda bench: partial(prune, model(), schedule, **arguments),
        error=error,
        says=says,
    )


def frozen() -> keras.Model:
    model = small()
    model.trainable = False
    return model


def no_kernels() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])


def no_weights() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), layers.ReLU()], name="bare")


def holds_compressed_layer() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), prune_layer(layers.Dense(2), half)])


class Twins(keras.Model):
    def __init__(self, name: str = "twins", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.first = layers.Dense(3, name="same")
        self.second = layers.Dense(3, name="same")
        self.build((None, 3))

    def build(self, input_shape: Any) -> None:
        self.first.build(input_shape)
        self.second.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs))


class Sized(Twins):
    def __init__(self, size: int) -> None:
        super().__init__()


class OwnStep(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


MODELS = [
    of_prune(
        "a model of tf-keras",
        "`model` must be a Keras 3 model, got .. tf_keras.src.engine.sequential"
        ".KerasTwoModel",
        model=KerasTwoModel,
    ),
    of_prune(
        "a path",
        "`model` must be a Keras 3 model, got an object of type builtins.str",
        model=lambda: "model.keras",
    ),
    of_prune(
        "not built",
        "The model 'mine' is not built, so it has no weights yet. Call it once",
        UnsupportedModelError,
        model=lambda: Unbuilt(name="mine"),
    ),
    of_prune(
        "all frozen",
        "The model 'small' has no weight to compress. .. hidden/kernel: frozen",
        UnsupportedModelError,
        model=frozen,
    ),
    of_prune(
        "no kernels",
        "has no weight to compress. .. gamma: a bias, a scale or another vector",
        UnsupportedModelError,
        model=no_kernels,
    ),
    of_prune(
        "no weights",
        "'bare' has no weight to compress. It has no weights at all",
        UnsupportedModelError,
        model=no_weights,
    ),
    of_prune(
        "NaN weight",
        "The weight 'small/hidden/kernel' holds 1 NaN or infinite values .. Train the "
        "model again",
        penjing.CompressionError,
        model=partial(poisoned, float("nan")),
    ),
    of_prune(
        "infinite weight",
        "'small/hidden/kernel' holds 1 NaN or infinite values .. restore sound weights",
        penjing.CompressionError,
        model=partial(poisoned, float("inf")),
        scope="global",
    ),
    of_prune(
        "pruned twice",
        "'compressed_small' is being pruned already. Strip it first",
        UnsupportedModelError,
        model=pruned,
    ),
    of_prune(
        "holds a compressed layer",
        "holds compressed layers. Strip it first",
        UnsupportedModelError,
        model=holds_compressed_layer,
    ),
    of_prune(
        "two weights of one path",
        "Two weights of the model 'twins' share the path .. same/kernel.* Give "
        "their layers different names",
        UnsupportedModelError,
        model=Twins,
    ),
    of_prune(
        "a class without its config",
        "'twins' of class Sized cannot be copied: .. `size` .. Give its class a "
        "`get_config` .. `copy=False`",
        UnsupportedModelError,
        model=lambda: Sized(3),
    ),
]

ARGUMENTS = [
    of_prune(
        "a number as schedule",
        r"`schedule` must be a penjing Schedule, such as penjing.PolynomialDecay\(...\)"
        ", got 0.8 of type float",
        schedule=0.8,
    ),
    of_prune(
        "the class of a schedule",
        "`schedule` must be a penjing Schedule .. of type type",
        schedule=PolynomialDecay,
    ),
    of_prune(
        "unknown pattern",
        r"`pattern` must be .. such as penjing.Block\(4, 1\), got 'block' of type str",
        pattern="block",
    ),
    of_prune(
        "unknown importance",
        "`importance` must be one of 'magnitude', .. got importance='magnitud'. Did "
        "you mean 'magnitude'?",
        importance="magnitud",
    ),
    of_prune(
        "importance of another shape",
        r"`importance` must give .. shape \(8, 6\), got shape \(48,\) .. "
        "'small/hidden/kernel'",
        importance=lambda values: keras.ops.reshape(keras.ops.abs(values), (-1,)),
    ),
    of_prune(
        "negative importance",
        "must give non-negative scores .. a minimum of -",
        importance=lambda values: -keras.ops.abs(values),
    ),
    of_prune(
        "unknown scope",
        "`scope` must be one of 'layer', 'global', got scope='globl'. Did you mean "
        "'global'",
        scope="globl",
    ),
    of_prune(
        "unknown allocation",
        "`allocation` must be one of 'uniform', 'erk', got allocation='erkk'. Did you "
        "mean 'erk'",
        allocation="erkk",
    ),
    of_prune(
        "global with erk",
        'scope="global" lets the weights compete .. Use scope="layer"',
        scope="global",
        allocation="erk",
    ),
    of_prune(
        "global with sparsity by layer",
        'scope="global" .. neither `allocation` nor `sparsity_by_layer`',
        scope="global",
        sparsity_by_layer={"head": 0.5},
    ),
    of_prune(
        "global n:m",
        r'NM\(n=2, m=4\) gives every layer the same sparsity .. scope="layer" only',
        scope="global",
        pattern=NM(2, 4),
    ),
    of_prune(
        "n:m against the schedule",
        r"NM\(2, 4\) ends at a sparsity of 0.5, but the schedule's final sparsity is "
        "0.8. Give the schedule that sparsity",
        pattern=NM(2, 4),
        schedule=OneShot(0.8),
    ),
    of_prune(
        "m that fits nowhere",
        "no weight to compress. .. its 8 input channels are no multiple of m=5",
        UnsupportedModelError,
        pattern=NM(2, 5),
        schedule=OneShot(0.6),
    ),
    of_prune(
        "block larger than every matrix",
        "a matrix of 8 x 6 is smaller than a block of 16 x 1",
        UnsupportedModelError,
        pattern=Block(16, 1),
    ),
    of_prune(
        "include matches nothing",
        "`include` names 'haed', which matches no weight of the model. Did you mean "
        "'head'\\? It has 'small/hidden/kernel', ",
        UnsupportedModelError,
        include="haed",
    ),
    of_prune(
        "exclude matches nothing",
        "`exclude` names 'hiden', which .. Did you mean 'hidden'",
        UnsupportedModelError,
        exclude=["hiden"],
    ),
    of_prune(
        "include of numbers",
        "`include` takes patterns and layers, got 3 of type int",
        include=[3],
    ),
    of_prune(
        "include a number",
        "`include` takes patterns and layers, got 3 of type int",
        include=3,
    ),
    of_prune(
        "a named layer that cannot be compressed",
        "`include` names 'norm', of which nothing can be compressed. "
        "small/norm/gamma: a bias",
        UnsupportedModelError,
        include=["head", "norm"],
    ),
    of_prune(
        "sparsity by layer of 1",
        r"in `sparsity_by_layer` must be numbers in \[0, 1\), got 1.0 for 'head'",
        sparsity_by_layer={"head": 1.0},
    ),
    of_prune(
        "sparsity by layer for nothing",
        "`sparsity_by_layer` names 'tail', which matches no pruned weight. .. are "
        "'small/hidden/kernel', 'small/head/kernel'",
        UnsupportedModelError,
        sparsity_by_layer={"tail": 0.5},
    ),
    of_prune(
        "sparsity by layer a number",
        "`sparsity_by_layer` must be a mapping .. got 0.5 of type float",
        sparsity_by_layer=0.5,
    ),
    of_prune(
        "a penalty below zero",
        "`l1` must be a number of at least 0, got -1.0. Typical values",
        l1=-1.0,
    ),
    of_prune(
        "sparsity by layer without a schedule",
        "`sparsity_by_layer` follows the schedule .. must be above 0",
        schedule=ConstantSparsity(0.0),
        sparsity_by_layer={"head": 0.5},
    ),
]


def diverged() -> penjing.CompressionModel:
    model = pruned()
    model.step.assign(1)  # as if it had been trained
    model.model.get_layer("head").kernel.assign(np.full((6, 3), np.nan))
    return model


def own_step() -> penjing.CompressionModel:
    model = OwnStep([keras.Input((8,)), layers.Dense(2)])
    return prune(model, half, copy=False)


class Holder(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="holder")
        self.inner = prune_layer(layers.Dense(2), half)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs)


def held() -> keras.Model:
    model = Holder()
    model(np.ones((1, 8), "float32"))
    return model


def of(
    name: str, says: str, error: type[Exception], function: Any, *make: Any, **more: Any
) -> Refusal:
    """A call whose arguments are made on the spot."""
    return Refusal(
        name=name,
        call=lambda bench: partial(function, *(value() for value in make), **more),
        error=error,
        says=says,
    )


def late(method: str, model: Any, *args: Any, **kwargs: Any) -> Any:
    return getattr(model, method)(*args, **kwargs)


AFTER = [
    of(
        "prune_layer: a model",
        "'small' is a model; compress it with penjing.prune",
        UnsupportedModelError,
        prune_layer,
        small,
        schedule=half,
    ),
    of(
        "prune_layer: no layer",
        "`layer` must be a Keras 3 layer, got an object of type builtins.str",
        ValueError,
        prune_layer,
        lambda: "dense",
        schedule=half,
    ),
    of(
        "prune_layer: a layer without weights",
        "has no weight to compress. It has no weights at all",
        UnsupportedModelError,
        lambda layer: prune_layer(layer, half)(np.ones((1, 4), "float32")),
        layers.ReLU,
    ),
    of(
        "strip: a plain model",
        "nothing to strip from 'small': it was not compressed, or was stripped before",
        UnsupportedModelError,
        strip,
        small,
    ),
    of(
        "strip: no model",
        "nothing to strip from None",
        UnsupportedModelError,
        strip,
        lambda: None,
    ),
    of(
        "strip: weights became NaN",
        "'small/head/kernel' holds 18 NaN or infinite values: training diverged. Lower "
        "the learning rate",
        penjing.CompressionError,
        strip,
        diverged,
    ),
    of(
        "strip: never built",
        "is not built yet, so no weight was compressed. Train it",
        UnsupportedModelError,
        strip,
        lambda: prune(keras.Sequential([layers.Dense(2)]), half),
    ),
    of(
        "strip: layers inside a subclassed model",
        "'holder' of class Holder holds compressed layers .. penjing.strip_layer",
        UnsupportedModelError,
        strip,
        held,
    ),
    of(
        "strip_layer: a plain layer",
        "`layer` must be a compressed layer, as .. got an object of type Dense. "
        "penjing.strip takes a model",
        UnsupportedModelError,
        strip_layer,
        lambda: layers.Dense(2),
    ),
    of(
        "sparsity_report: not built",
        "`model` must be a built Keras model, got 'mine'. Call it on a batch first",
        ValueError,
        penjing.sparsity_report,
        lambda: Unbuilt(name="mine"),
    ),
    of(
        "sparsity_report: a path",
        "`model` must be a built Keras model, got 'model.keras'",
        ValueError,
        penjing.sparsity_report,
        lambda: "model.keras",
    ),
    of(
        "compile: a training step of its own",
        "of class OwnStep defines its own `train_step` .. move what it does into "
        "`compute_loss`, or .. penjing.prune_layer",
        UnsupportedModelError,
        partial(late, "compile"),
        own_step,
        optimizer="adam",
        loss="mse",
    ),
    of(
        "register_layer_spec: no class",
        "`layer_class` must be a subclass of keras.layers.Layer, got 'Dense'",
        ValueError,
        penjing.register_layer_spec,
        lambda: "Dense",
        weights=[],
    ),
]


def tfmot(name: str) -> Any:
    return getattr(penjing.tfmot.sparsity.keras, name)


def of_tfmot(
    name: str,
    says: str,
    function: str,
    *make: Any,
    error: type[Exception] = ValueError,
    once: bool = False,
    **more: Any,
) -> Refusal:
    return Refusal(
        name=f"tfmot: {name}",
        call=lambda bench: partial(
            tfmot(function), *(value() for value in make), **more
        ),
        error=error,
        says=says,
        once=once,
    )


PRUNE = "prune_low_magnitude"
TFMOT = [
    of_tfmot(
        "a model of tf-keras",
        "`to_prune` must be a Keras 3 model, a layer or a list .. tf_keras",
        PRUNE,
        KerasTwoModel,
    ),
    of_tfmot(
        "a schedule that is none",
        "`pruning_schedule` must be a PruningSchedule .. got 0.5 of type float",
        PRUNE,
        small,
        pruning_schedule=0.5,
    ),
    of_tfmot(
        "pooling",
        "`block_pooling_type` must be 'AVG' or 'MAX', got 'mean'",
        PRUNE,
        small,
        block_pooling_type="mean",
    ),
    of_tfmot(
        "block size",
        r"`block_size` must be two positive integers .. got \(4,\)",
        PRUNE,
        small,
        block_size=(4,),
    ),
    of_tfmot(
        "blocks and m by n",
        r"exclude each other, got block_size=\(4, 1\) .. Give one",
        PRUNE,
        small,
        block_size=(4, 1),
        sparsity_m_by_n=(2, 4),
    ),
    of_tfmot(
        "m not below n",
        r"the first must be smaller, got \(4, 2\)",
        PRUNE,
        small,
        sparsity_m_by_n=(4, 2),
    ),
    of_tfmot(
        "wrapper arguments for a model",
        r"unknown arguments \['nam'\] .. with a single layer only",
        PRUNE,
        small,
        error=TypeError,
        nam="x",
    ),
    of_tfmot(
        "all frozen",
        "'small' has no weight that can be pruned. .. frozen",
        PRUNE,
        frozen,
        error=UnsupportedModelError,
    ),
    of_tfmot(
        "strip no model",
        "`model` must be a Keras 3 model, got an object of type builtins.str",
        "strip_pruning",
        lambda: "model.keras",
    ),
    of_tfmot(
        "sparsity of 1",
        r"`target_sparsity` must be in \[0, 1\), the fraction of zeros, got 1.0",
        "ConstantSparsity",
        once=True,
        target_sparsity=1.0,
        begin_step=0,
    ),
    of_tfmot(
        "end before begin",
        "`end_step` must not come before `begin_step`, got begin_step=9 and end_step=3",
        "PolynomialDecay",
        once=True,
        initial_sparsity=0.0,
        final_sparsity=0.5,
        begin_step=9,
        end_step=3,
    ),
    of_tfmot(
        "no end for a ramp",
        "`end_step` cannot be -1 here .. epochs",
        "PolynomialDecay",
        once=True,
        initial_sparsity=0.0,
        final_sparsity=0.5,
        begin_step=0,
        end_step=-1,
    ),
    of_tfmot(
        "frequency of 0",
        "`frequency` must be 1 or more batches, got 0",
        "ConstantSparsity",
        once=True,
        target_sparsity=0.5,
        begin_step=0,
        frequency=0,
    ),
    of_tfmot(
        "summaries without a folder",
        "`log_dir` must be the path of a folder, got ''",
        "PruningSummaries",
        once=True,
        log_dir="",
    ),
]

REFUSALS = [*SCHEDULES, *MODELS, *ARGUMENTS, *AFTER, *TFMOT]
