"""Mixed precision models that compute in float32 for a while."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.jax_cases import few_on_jax

from penjing.export.precision import float32_compute

layers = keras.layers


def mixed(dtype):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(50, "relu", dtype=dtype),
            layers.Dense(3, dtype=dtype),
        ]
    )


def outputs(model, x):
    return model(x, training=False)


@pytest.mark.parametrize(
    "dtype",
    few_on_jax(
        ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"], "mixed_bfloat16"
    ),
)
def test_outputs_are_those_of_float32_within_the_block_alone(dtype):
    model = mixed(dtype)
    plain = mixed("float32")
    values = [keras.ops.cast(w.value, "float32") for w in model.weights]
    for weight, value in zip(plain.weights, values, strict=True):
        weight.assign(value)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    policies = [layer.dtype_policy for layer in model.layers]
    with float32_compute(model):
        inside = outputs(model, x)
    assert keras.backend.standardize_dtype(inside.dtype) == "float32"
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(inside),
        keras.ops.convert_to_numpy(outputs(plain, x)),
        rtol=1e-5,  # order of sums
        atol=1e-6,
    )
    assert [layer.dtype_policy for layer in model.layers] == policies
    assert keras.backend.standardize_dtype(outputs(model, x).dtype) != "float32"


def test_policies_come_back_after_an_error():
    model = mixed("mixed_bfloat16")
    with pytest.raises(KeyError), float32_compute(model):
        raise KeyError
    assert {layer.dtype_policy.name for layer in model.layers} == {"mixed_bfloat16"}


@pytest.mark.once
def test_layers_that_keras_quantized_keep_their_policy():
    model = mixed("mixed_bfloat16")
    model.layers[0].quantize("int8")
    policy = model.layers[0].dtype_policy
    with float32_compute(model):
        assert model.layers[0].dtype_policy is policy
        assert model.layers[1].dtype_policy is not policy
