"""A small model and its files, converted once."""

import keras
import numpy as np
import pytest


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Folder of model.keras, {float,dynamic,int8,zeros,sparse}.tflite and data.npz.

    In zeros.tflite and sparse.tflite the kernel of `hidden` holds 90 % zeros.
    """
    from tests.tflite.tflite_writer import convert, small_model

    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("converted")
    random = np.random.default_rng(0)
    x = random.random((50, 8, 8, 1)).astype("float32")
    model = small_model()
    for layer in model.layers:
        if layer.weights:  # a bias of zeros would be dropped or shared
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(size=bias.shape)])
    model.save(folder / "model.keras")
    kinds = {"float": (), "dynamic": ("DEFAULT",), "int8": ("DEFAULT",)}
    for name, options in kinds.items():
        samples = x[:8] if name == "int8" else None
        data = convert(model, *options, samples=samples)
        (folder / f"{name}.tflite").write_bytes(data)
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[random.random(kernel.shape) < 0.9] = 0
    model.get_layer("hidden").set_weights([kernel, bias])
    (folder / "zeros.tflite").write_bytes(convert(model))
    data = convert(model, "EXPERIMENTAL_SPARSITY")
    (folder / "sparse.tflite").write_bytes(data)
    np.savez(folder / "data.npz", x=x, kernel=kernel)
    return folder
