"""The deep networks: their sizes, strides and names."""

from __future__ import annotations

import itertools

import keras
import pytest

from penjing.data.deep_architectures import KERNELS, mobilenet, resnet_20

pytestmark = pytest.mark.once


class Counted:
    """Initializers, and how many were taken."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        return keras.initializers.Zeros()


@pytest.mark.parametrize(
    ("make", "parameters", "kernels"),
    [(resnet_20, 273_754, 22), (mobilenet, 279_498, 16)],
)
def test_sizes_are_those_of_the_documents(make, parameters, kernels):
    counted = Counted()
    model = make((28, 28) if make is resnet_20 else (32, 32, 3), 10, counted)
    assert model.count_params() == parameters
    assert counted.taken == kernels <= KERNELS
    assert model.name == make.__name__
    assert model.output_shape == (None, 10)
    names = [layer.name for layer in model.layers]
    assert len(names) == len(set(names))


def strides(model):
    sizes = [
        layer.output.shape[1]
        for layer in model.layers
        if len(layer.output.shape) == 4 and "relu" in layer.name
    ]
    return [size for size, _ in itertools.groupby(sizes)]


def test_images_get_smaller_stage_by_stage():
    zeros = itertools.repeat("zeros")
    assert strides(resnet_20((32, 32, 3), 4, zeros)) == [32, 16, 8]
    assert strides(mobilenet((32, 32, 3), 4, zeros)) == [16, 8, 4]


def test_images_without_channels_get_one():
    model = mobilenet((16, 16), 3, itertools.repeat("zeros"))
    assert model.input_shape == (None, 16, 16)
    assert model.get_layer("reshape").output.shape == (None, 16, 16, 1)


def test_padding_stands_in_a_layer_where_the_stride_is_two():
    model = mobilenet((32, 32, 3), 4, itertools.repeat("zeros"))
    for layer in model.layers:
        if getattr(layer, "strides", (1, 1)) == (2, 2):
            assert layer.padding == "valid"
            name = layer.name.rpartition("_")[0]
            assert model.get_layer(f"{name}_padding").padding == ((1, 1), (1, 1))
