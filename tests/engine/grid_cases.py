"""The small network in quantization: its steps, and what its weights must be."""

from __future__ import annotations

import keras
import numpy as np
from tests.engine import small_net
from tests.engine.small_net import kernels
from tests.engine.training_cases import to_array

import penjing
from penjing import Grid
from penjing.engine.transforms.quantization_transform import FakeQuantize

FEW = Grid(levels=7, granularity="per_tensor")


def compiled(model, optimizer=None):
    return small_net.compiled(model, optimizer or keras.optimizers.Adam(0.01))


def steps(model, count):
    return small_net.steps(model if model.compiled else compiled(model), count)


def transform_of(model):
    return next(t for t in model.transforms if isinstance(t, FakeQuantize))


def scales(model):
    return {path: to_array(s) for path, s in transform_of(model).scales().items()}


def check_grids(model, highest):
    """Every stripped weight is its scale times integers within the grid."""
    plain = kernels(penjing.strip(model))
    for path, scale in scales(model).items():
        integers = np.rint(plain[path] / scale)
        np.testing.assert_array_equal(plain[path], integers * scale)
        assert np.abs(integers).max() <= highest, path
        assert np.count_nonzero(integers), path
    return plain
