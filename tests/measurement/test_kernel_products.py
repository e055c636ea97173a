"""Products that the runtime computes, against the multiply-accumulates counted."""

import math

import keras
import pytest
from keras import layers

import penjing
from penjing.measurement.kernel_products import used_kernels
from penjing.measurement.mac_formulas import is_whole
from penjing.models.layer_calls import known_signature, trace_calls

pytestmark = pytest.mark.once


LAYERS = {
    "conv": (layers.Conv2D(8, (3, 2), strides=2, padding="same"), (9, 8, 6)),
    "dilated": (layers.Conv2D(8, 3, dilation_rate=2), (9, 8, 6)),
    "grouped": (layers.Conv2D(8, 3, groups=2), (5, 5, 6)),
    "causal": (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (10, 2)),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 6)),
    "separable": (layers.SeparableConv2D(5, 3, strides=2), (9, 9, 3)),
    "transposed": (layers.Conv2DTranspose(4, 3, strides=2), (5, 6, 2)),
    "volume": (layers.Conv3D(2, 2), (5, 5, 5, 3)),
    "einsum": (layers.EinsumDense("abc,cde->abde", (3, 2, 6)), (3, 5)),
    "recurrent": (layers.LSTM(6), (7, 4)),
    "dense": (layers.Dense(7), (3, 5)),
}


@pytest.mark.once
@pytest.mark.parametrize("name", LAYERS)
def test_products_make_the_multiply_accumulates_that_are_counted(name):
    layer, shape = LAYERS[name]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    calls = trace_calls(model, known_signature(model), is_whole)
    used = [kernel for call in calls for kernel in used_kernels(call)]
    counted = {kernel.path: kernel.product.macs * kernel.repeats for kernel in used}
    assert counted == penjing.count_macs(model).kernels
    if name != "recurrent":
        values = [math.prod(kernel.product.shapes()[2]) for kernel in used]
        expected = math.prod(model.output_shape[1:])
        assert name in ("transposed",) or values[-1] == expected


def used_by(layer, shape):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    calls = trace_calls(model, known_signature(model), is_whole)
    return [kernel for call in calls for kernel in used_kernels(call)]


def test_a_causal_convolution_is_padded_in_front_by_its_reach():
    layer = layers.Conv1D(4, 3, padding="causal", dilation_rate=2, name="c")
    (kernel,) = used_by(layer, (10, 2))
    product = kernel.product
    assert (kernel.layer, kernel.repeats) == ("c", 1)
    assert (product.kind, product.inputs, product.outputs) == ("conv", 2, 4)
    assert (product.size, product.kernel) == ((1, 10 + 2 * 2), (1, 3))
    assert (product.dilation, product.padding) == ((1, 2), "valid")


def test_depth_is_one_input_with_a_multiplier():
    (kernel,) = used_by(layers.DepthwiseConv2D((2, 3), depth_multiplier=2), (5, 5, 6))
    product = kernel.product
    assert (product.kind, product.inputs, product.outputs) == ("depthwise", 1, 12)
    assert (product.multiplier, product.kernel) == (2, (2, 3))


def test_a_recurrent_layer_repeats_its_products_in_each_step():
    kernels = used_by(layers.LSTM(6), (7, 4))
    assert [kernel.repeats for kernel in kernels] == [7, 7]
    assert [kernel.product.inputs for kernel in kernels] == [4, 6]
    assert {kernel.product.rows for kernel in kernels} == {1}


def test_what_has_no_kernel_has_no_product():
    assert used_by(layers.MaxPooling2D(), (4, 4, 1)) == []
