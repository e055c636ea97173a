"""Files with one product in them: they run, and compute what they say."""

from __future__ import annotations

import numpy as np
import pytest

import penjing
from penjing.runtime.product_files import KernelProduct, write_product

pytestmark = pytest.mark.once


@pytest.mark.parametrize("quantization", [None, "dynamic", "int8"])
def test_files_of_products_run(quantization, tmp_path):
    common = {"size": (8, 9), "kernel": (3, 3), "strides": (2, 1), "padding": "same"}
    products = [
        KernelProduct(kind="dense", inputs=40, outputs=30, rows=3),
        KernelProduct(kind="conv", inputs=16, outputs=24, **common),
        KernelProduct(kind="conv", inputs=8, outputs=24, groups=2, **common),
        KernelProduct(kind="depthwise", inputs=1, outputs=128, **common),
    ]
    for product in products:
        file = tmp_path / "product.tflite"
        file.write_bytes(write_product(product, quantization))
        model = penjing.LiteRTModel(file)
        shape, _, output = product.shapes()
        random = np.random.default_rng(0).normal(size=shape).astype("float32")
        result = model.predict(random)
        assert list(result.shape) == output
        assert np.ptp(result) > 0
        assert (model.inputs[0].dtype == "int8") == (quantization == "int8")


def test_a_product_is_the_one_that_it_says(tmp_path):
    """Weights are 0.01 times the integers that seed 0 gives."""
    product = KernelProduct(kind="dense", inputs=5, outputs=3, rows=2)
    file = tmp_path / "product.tflite"
    file.write_bytes(write_product(product, None))
    x = np.arange(10, dtype="float32").reshape(2, 5)
    weights = np.random.default_rng(0).integers(-127, 128, (3, 5), "i1") * 0.01
    expected = x @ weights.T.astype("float32")
    result = penjing.LiteRTModel(file).predict(x)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("product", "macs", "shapes"),
    [
        (
            KernelProduct(kind="dense", inputs=5, outputs=3, rows=2),
            30,
            ([2, 5], [3, 5], [2, 3]),
        ),
        (
            KernelProduct(
                kind="conv", inputs=2, outputs=3, size=(5, 6), kernel=(3, 2), groups=4
            ),
            3 * 5 * 6 * 2 * 3,
            ([1, 5, 6, 8], [3, 3, 2, 2], [1, 3, 5, 3]),
        ),
        (
            KernelProduct(
                kind="conv",
                inputs=1,
                outputs=1,
                size=(7, 7),
                kernel=(3, 3),
                strides=(2, 1),
                dilation=(2, 3),
                padding="same",
            ),
            4 * 7 * 9,
            ([1, 7, 7, 1], [1, 3, 3, 1], [1, 4, 7, 1]),
        ),
        (
            KernelProduct(
                kind="depthwise",
                inputs=1,
                outputs=6,
                size=(7, 7),
                kernel=(3, 3),
                dilation=(2, 2),
                multiplier=2,
            ),
            3 * 3 * 9 * 6,
            ([1, 7, 7, 3], [1, 3, 3, 6], [1, 3, 3, 6]),
        ),
    ],
)
def test_shapes_and_products_by_hand(product, macs, shapes):
    assert (product.macs, product.shapes()) == (macs, shapes)
