"""The settings of `prune` as a value."""

import dataclasses
import json

import keras
import pytest
from keras import layers
from tests.engine.pruning_cases import (
    smallest_first,
)

from penjing import NM, Block, OneShot, PolynomialDecay, PruningConfig, Unstructured


@pytest.mark.once
@pytest.mark.parametrize(
    "config",
    [
        PruningConfig(schedule=OneShot(0.5)),
        PruningConfig(
            schedule=PolynomialDecay(final_sparsity=0.5, begin_step=0, end_step=9),
            pattern=NM(2, 4),
            include=["a", "b*"],
            exclude="c",
        ),
        PruningConfig(
            schedule=OneShot(0.5),
            allocation="erk",
            pattern=Block(1, 4),
            importance="lamp",
            sparsity_by_layer={"head": 0.1},
        ),
        PruningConfig(schedule=OneShot(0.5), scope="global", importance=smallest_first),
    ],
    ids=["default", "n_m", "erk", "global"],
)
def test_a_config_survives_json(config):
    text = json.dumps(keras.saving.serialize_keras_object(config))
    restored = keras.saving.deserialize_keras_object(json.loads(text))
    listed = ["c"] if config.exclude else None
    assert restored == dataclasses.replace(config, exclude=listed)


@pytest.mark.once
def test_layers_in_a_config_become_their_names():
    config = PruningConfig(schedule=OneShot(0.5), include=layers.Dense(2, name="head"))
    assert config.get_config()["include"] == ["head"]


@pytest.mark.once
@pytest.mark.parametrize("keep", [0, -3, 2.5, True])
def test_keep_at_least_counts_weights(keep):
    with pytest.raises(ValueError, match="`keep_at_least` must be an integer of at le"):
        PruningConfig(OneShot(0.5), keep_at_least=keep)


@pytest.mark.once
def test_no_pattern_is_that_of_single_weights():
    assert PruningConfig(OneShot(0.5), pattern=None).pattern == Unstructured()
