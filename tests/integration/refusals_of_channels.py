"""Refusals of channel pruning."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from tests.integration.refusal import Refusal, Unbuilt, compiled, data, pruned, small

from penjing import DataError, UnsupportedModelError, prune_channels
from penjing.channels.cut_search import OutOfReachError

layers = keras.layers


def refused(
    name: str,
    says: str,
    error: type[Exception] = ValueError,
    make: Any = small,
    **arguments: Any,
) -> Refusal:
    return Refusal(
        name=f"prune_channels: {name}",
        call=lambda bench: partial(prune_channels, make(), **arguments),
        error=error,
        says=says,
        once=True,
    )


def hidden_by_a_lambda() -> keras.Model:
    inputs = keras.Input((8,))
    x = layers.Dense(16, name="before")(inputs)
    x = layers.Lambda(lambda x: x * 2.0, name="secret")(x)
    return keras.Model(inputs, layers.Dense(2, name="after")(x), name="hiding")


def samples() -> tuple[np.ndarray, np.ndarray]:
    arrays = data()
    return arrays["x_train"], arrays["y_train"]


REFUSALS = [
    refused("no target", "Exactly one of .* got none .. macs=0.5 keeps half"),
    refused(
        "two targets",
        "Exactly one of .* got ratio=0.5 and latency=0.3",
        ratio=0.5,
        latency=0.3,
    ),
    refused(
        "a ratio that empties a layer",
        "ratio=0.95 cannot be met: at most 0.833 of the channels can go. Lower",
        OutOfReachError,
        ratio=0.95,
    ),
    refused("a ratio of 1", r"`ratio` .* in \[0, 1\), got 1.0", ratio=1.0),
    refused("a ratio of text", r"`ratio` .* got '30%'", ratio="30%"),
    refused(
        "macs that cannot be met",
        "macs=10 cannot be met: the best that can be reached is 11 multiply-accumulates"
        ", 0.167 of the model's 66",
        OutOfReachError,
        macs=10,
    ),
    refused(
        "parameters that cannot be met",
        "parameters=0.05 cannot be met: the best .* parameters",
        OutOfReachError,
        parameters=0.05,
    ),
    refused("macs above 1", "`macs` is what stays: a fraction .* got 1.5", macs=1.5),
    refused("macs of zero", "`macs` .* got 0", macs=0),
    refused("a flag as macs", "`macs` .* got True", macs=True),
    refused("latency without unit", '"0.5 ms"; got 3.0', latency=3.0),
    refused("latency in seconds", "`latency` .* got '1 s'", latency="1 s"),
    refused(
        "an unknown importance",
        "`importance` must be one of 'l2', .* got 'tailor'. Did you mean 'taylor'",
        ratio=0.5,
        importance="tailor",
    ),
    refused("an unknown scope", "`scope` .* got scope='all'", ratio=0.5, scope="all"),
    refused("round_to", "`round_to` .* got 0", ratio=0.5, round_to=0),
    refused("min_channels", "`min_channels` .* got 1.5", ratio=0.5, min_channels=1.5),
    refused(
        "importance without data",
        'importance="taylor"` looks at data: pass',
        DataError,
        compiled,
        ratio=0.5,
        importance="taylor",
    ),
    refused(
        "importance without a loss",
        "'small' is not compiled with a loss .. another importance",
        UnsupportedModelError,
        ratio=0.5,
        importance="taylor",
        data=samples(),
    ),
    refused(
        "importance data of the wrong shape",
        "The loss of 'small' cannot be computed on `data`",
        DataError,
        compiled,
        ratio=0.5,
        importance="taylor",
        data=(np.ones((24, 5), "float32"), np.zeros(24, int)),
    ),
    refused(
        "data and labels of other lengths",
        "same number of samples, but x has 24, y has 7",
        DataError,
        compiled,
        ratio=0.5,
        importance="taylor",
        data=(samples()[0], samples()[1][:7]),
    ),
    refused(
        "sample weights beside arrays",
        "got 3 parts. Sample weights need a loader",
        DataError,
        compiled,
        ratio=0.5,
        importance="taylor",
        data=(*samples(), np.ones(24)),
    ),
    refused(
        "a function that gives another shape",
        r"one score for each of the 6 units of .* shape \(6,\), got shape \(3,\)",
        ratio=0.5,
        importance=lambda group, weights: np.ones(3),
    ),
    refused(
        "a function that gives NaN",
        "finite scores of at least 0, got nan",
        ratio=0.5,
        importance=lambda group, weights: np.full(group.size, np.nan),
    ),
    refused(
        "a mapping without a group",
        "`importance` has no scores for .*hidden",
        ratio=0.5,
        importance={"hiden": np.ones(6)},
    ),
    refused(
        "a norm that is not there",
        "pass through no normalization .* exclude=",
        UnsupportedModelError,
        lambda: keras.Sequential(
            [keras.Input((4,)), layers.Dense(16), layers.Dense(2)]
        ),
        ratio=0.5,
        importance="batch_norm",
    ),
    refused(
        "a layer that cannot be cut",
        "`include` names 'head', whose channels cannot be cut. .* output of the model",
        UnsupportedModelError,
        ratio=0.5,
        include="head",
    ),
    refused(
        "a misspelt layer",
        "`include` names 'hiden', which matches no layer .* mean .*hidden",
        UnsupportedModelError,
        ratio=0.5,
        include="hiden",
    ),
    refused(
        "a misspelt exclusion",
        "`exclude` names 'hiden', which matches no layer",
        UnsupportedModelError,
        ratio=0.5,
        exclude=["hiden"],
    ),
    refused(
        "nothing left to cut",
        "'small' has no channels that can be cut and are not excluded",
        UnsupportedModelError,
        ratio=0.5,
        exclude="hidden",
    ),
    refused(
        "a number as a filter",
        "`include` takes patterns and layers, got 3",
        ratio=0.5,
        include=3,
    ),
    refused(
        "a Lambda that hides channels",
        "'hiding' has no channels that can be cut .* 'secret' .* hides",
        UnsupportedModelError,
        hidden_by_a_lambda,
        ratio=0.5,
    ),
    refused(
        "a Lambda before a named layer",
        "`include` names 'before', whose channels cannot be cut. .* 'secret'",
        UnsupportedModelError,
        hidden_by_a_lambda,
        ratio=0.5,
        include="before",
    ),
    refused(
        "a model in training",
        "is being compressed. Take its transforms off first: penjing.strip",
        UnsupportedModelError,
        pruned,
        ratio=0.5,
    ),
    refused(
        "no model", "built Keras model, got", UnsupportedModelError, str, ratio=0.5
    ),
    refused(
        "an unbuilt model",
        "built Keras model, got 'young'",
        UnsupportedModelError,
        lambda: keras.Sequential([layers.Dense(2)], name="young"),
        ratio=0.5,
    ),
    refused(
        "a subclassed model",
        "'mine', which is not one yet",
        UnsupportedModelError,
        partial(Unbuilt, name="mine"),
        ratio=0.5,
    ),
]
