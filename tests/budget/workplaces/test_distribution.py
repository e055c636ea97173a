"""Trials that are spread over devices: on JAX, and refused elsewhere."""

from __future__ import annotations

import keras
import pytest
from tests.engine.training_cases import BACKEND, run_script

import penjing
from penjing.budget.workplaces.distribution import distributed
from penjing.errors import CompressionError, CompressionWarning

SCRIPT = """
import keras
import numpy as np
from penjing.budget.workplaces.distribution import distributed
from penjing.budget.workplaces.shared_inputs import _set_up_keras, _setup_of_keras
from penjing.pipeline import FractionalSchedule, PruningConfig, Recipe, TrainingRecipe
from penjing.pipeline.recipe_run import run_recipe
from penjing.pipeline.training_data import TrainingData
import penjing

rng = np.random.default_rng(0)
x = rng.normal(size=(51, 8)).astype("float32")  # the last batch has 3 samples
y = (x[:, 0] > 0).astype("int32")
prune = PruningConfig(schedule=FractionalSchedule(final_sparsity=0.5))
recipe = Recipe(
    name="r", training=TrainingRecipe(epochs=2, batch_size=16), methods=(prune,)
)


def trained(samples):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(4)
    model = keras.Sequential([keras.Input((8,)), dense])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    data = (x[:samples], y[:samples])
    return run_recipe(model, data, recipe, progress=False)


alone = penjing.strip(trained(48)).get_weights()
with distributed("data-parallel"):
    both = trained(48)
    kernel = both.model.layers[0].kernel.value
    assert len(kernel.addressable_shards) == 2
    both = penjing.strip(both).get_weights()
    trained(51)
    pair = (x[:33], y[:33])
    assert _setup_of_keras()["data_parallel"]
    lengths = [
        TrainingData(source=pair, batch_size=size, seed=0).steps_per_epoch
        for size in (16, 31, 32)
    ]
assert lengths == [2, 2, 1], lengths  # a batch of one sample has nothing for the other
assert keras.distribution.distribution() is None
settings = _setup_of_keras()
assert not settings["data_parallel"]
_set_up_keras({**settings, "data_parallel": True})
assert keras.distribution.distribution().num_model_replicas == 2
for mine, yours in zip(alone, both, strict=True):
    np.testing.assert_allclose(mine, yours, atol=1e-5)
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution needs JAX")
def test_a_recipe_trains_over_two_devices_as_on_one(tmp_path):
    output = run_script(
        SCRIPT,
        tmp_path,
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert output.endswith("done\n")


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has it")
def test_backends_without_it_refuse_and_say_what_else_there_is():
    with (
        pytest.raises(CompressionError, match="works on JAX; this is.*--workers"),
        distributed("data-parallel"),
    ):
        pass


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX has it")
def test_one_device_is_warned_of():
    with (
        pytest.warns(CompressionWarning, match="There is one device"),
        distributed("data-parallel"),
    ):
        assert keras.distribution.distribution() is not None
    assert keras.distribution.distribution() is None


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has it")
@pytest.mark.parametrize("recipe", [None, "default"])
def test_compress_hands_it_on(tmp_path, recipe):
    with pytest.raises(CompressionError, match="works on JAX"):
        penjing.compress(
            "m.keras", "d.npz", recipe, out=tmp_path, distribution="data-parallel"
        )


def test_another_name_is_refused_and_none_changes_nothing():
    with (
        pytest.raises(ValueError, match="data-parallel"),
        distributed("data_parallel"),
    ):
        pass
    with distributed(None):
        assert keras.distribution.distribution() is None
