"""What a `QuantizeConfig` and its quantizers say in grids, and what they cannot."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

import penjing
from penjing import tfmot
from penjing.numerics.grids import Grid
from penjing.tfmot.quantize_config import activation_grid, weight_grid

quantization = tfmot.quantization.keras
quantizers = quantization.quantizers
LastValue = quantizers.LastValueQuantizer
MovingAverage = quantizers.MovingAverageQuantizer

pytestmark = pytest.mark.once


class DenseConfig(quantization.QuantizeConfig):
    bits = 8

    def get_weights_and_quantizers(self, layer):
        quantizer = LastValue(
            num_bits=self.bits, symmetric=True, narrow_range=False, per_axis=False
        )
        return [(layer.kernel, quantizer)]

    def get_activations_and_quantizers(self, layer):
        quantizer = MovingAverage(
            num_bits=8, symmetric=False, narrow_range=False, per_axis=False
        )
        return [(layer.activation, quantizer)]

    def set_quantize_weights(self, layer, quantize_weights):
        raise AssertionError("the layer is not changed")

    def set_quantize_activations(self, layer, quantize_activations):
        raise AssertionError("the layer is not changed")

    def get_output_quantizers(self, layer):
        return []

    def get_config(self):
        return {}


class FourBits(DenseConfig):
    bits = 4


class WeightsAlone(DenseConfig):
    def get_activations_and_quantizers(self, layer):
        return []


class BothSymmetric(DenseConfig):
    def get_activations_and_quantizers(self, layer):
        return [(layer.activation, MovingAverage(8, False, True, False))]


class DifferentOutputs(DenseConfig):
    def get_output_quantizers(self, layer):
        return [MovingAverage(8, False, True, False)]


class Biases(DenseConfig):
    def get_weights_and_quantizers(self, layer):
        return [(layer.bias, LastValue(8, False, True, False))]


class NoVariable(DenseConfig):
    def get_weights_and_quantizers(self, layer):
        return [(layer.units, LastValue(8, False, True, False))]


class Clip(quantizers.Quantizer):
    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        return keras.ops.clip(inputs, -1.0, 1.0)

    def get_config(self):
        return {}


class CustomLayer(layers.Dense):
    pass


def apply(*configs, kind=layers.Dense):
    dense = [
        quantization.quantize_annotate_layer(kind(6, name=f"dense_{i}"), config)
        for i, config in enumerate(configs)
    ]
    model = keras.Sequential([keras.Input((20,)), *dense, layers.Flatten()])
    with quantization.quantize_scope({"CustomLayer": CustomLayer}):
        return quantization.quantize_apply(quantization.quantize_annotate_model(model))


def test_a_config_gives_the_bits_of_its_layer():
    quantized = apply(FourBits(), DenseConfig())
    (rounded,) = quantized.transforms
    assert rounded.grids == (
        Grid(bits=4, granularity="per_tensor"),
        Grid(bits=8, granularity="per_tensor"),
    )
    first, _, second, _ = penjing.strip(quantized).get_weights()
    assert np.unique(first).size <= 15 < np.unique(second).size
    assert quantized.activations.config.grid.symmetric is False
    assert quantized.activations.config.learn_ranges is False


def test_without_quantizers_activations_stay_as_they_are():
    quantized = apply(WeightsAlone())
    assert quantized.activations is None
    x = np.ones((2, 20), "float32")
    plain = penjing.strip(quantized)
    np.testing.assert_allclose(to_array(quantized(x)), to_array(plain(x)), atol=1e-6)


def test_symmetric_activations_are_asked_for():
    assert apply(BothSymmetric()).activations.config.grid.symmetric is True


def test_a_layer_class_of_ones_own_takes_a_config():
    quantized = apply(FourBits(), kind=CustomLayer)
    assert isinstance(quantized.layers[0], CustomLayer)
    assert np.unique(to_array(penjing.strip(quantized).layers[0].kernel)).size <= 15


def test_an_annotated_model_survives_its_config():
    marked = quantization.quantize_annotate_layer(layers.Dense(3), FourBits())
    with quantization.quantize_scope({"FourBits": FourBits}):
        again = type(marked).from_config(marked.get_config())
    assert type(again.quantize_config) is FourBits
    assert again.layer.units == 3


@pytest.mark.parametrize(
    ("configs", "says"),
    [
        ((DenseConfig(), WeightsAlone()), "all share one kind of grid, or none"),
        ((DifferentOutputs(),), "ask for different grids"),
        ((Biases(),), r"bias', which is not possible: a bias, a scale"),
        ((NoVariable(),), "gives 6 for the layer 'quant_dense_0', which is none of"),
    ],
)
def test_what_no_grid_stands_for_is_refused(configs, says):
    with pytest.raises(penjing.UnsupportedModelError, match=says):
        apply(*configs)


def test_quantizers_describe_grids():
    every = [LastValue, MovingAverage, quantizers.AllValuesQuantizer]
    for kind in every:
        narrow = kind(num_bits=4, per_axis=True, symmetric=True, narrow_range=True)
        assert weight_grid(narrow, "w") == Grid(bits=4, granularity="per_channel")
        assert kind.from_config(narrow.get_config()) == narrow
        plain = kind(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
        assert activation_grid(plain, "a").lowest == -128
        assert activation_grid(plain, "a").symmetric is False
    assert every[0](8, True, True, True) != every[1](8, True, True, True)


@pytest.mark.parametrize(
    ("grid", "quantizer", "says"),
    [
        (weight_grid, LastValue(8, False, False, False), "Pass symmetric=True"),
        (weight_grid, Clip(), "of class Clip, whose values lie on no grid"),
        (
            activation_grid,
            quantizers.FixedQuantizer(8, -1.0, 1.0, False),
            "whose range is given, but ranges follow the data here",
        ),
        (activation_grid, MovingAverage(4, False, False, False), "Pass num_bits=8"),
        (activation_grid, MovingAverage(8, True, False, False), "per_axis=False"),
        (activation_grid, MovingAverage(8, False, True, True), "narrow_range=False"),
    ],
)
def test_quantizers_without_a_grid_are_refused(grid, quantizer, says):
    with pytest.raises(penjing.UnsupportedModelError, match=says):
        grid(quantizer, "tensor")


def test_too_many_bits_are_refused():
    with pytest.raises(ValueError, match="must stay within -127 to 127"):
        sixteen = type("Sixteen", (DenseConfig,), {"bits": 16})
        apply(sixteen())
