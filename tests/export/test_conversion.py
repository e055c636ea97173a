"""The converter's settings, and the order of what it gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from penjing.errors import ExportError
from penjing.export import conversion
from penjing.export.conversion import convert_model
from penjing.export.conversion_config import ConversionConfig
from penjing.models.signature import input_signature
from penjing.tflite.loading import load_records

layers = keras.layers
once = pytest.mark.once
only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="converts in this process"
)


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int1"}, "Unknown `quantization` 'int1'"),
        (
            {"quantization": "float16", "output_type": "int8"},
            "`output_type`='int8' does not go with quantization='float16'. Allowed: "
            "'float32'. Integer inputs and outputs need "
            'quantization="int8", "int16x8" or "int8x4"',
        ),
        (
            {"quantization": "int8", "observer": "mes"},
            "Unknown `observer` 'mes'. .*Did you mean 'mse'",
        ),
        (
            {"quantization": "dynamic", "observer": "mse"},
            'are observed, with "int8" and "int8x4"',
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConversionConfig(**arguments)


def swapped():
    """Two inputs and outputs whose names are not in the order of their places."""
    b, a = keras.Input((3,), name="b"), keras.Input((5,), name="a")
    return keras.Model([b, a], {"z": layers.Dense(2)(b), "y": layers.Dense(4)(a)})


def shapes(graph, side):
    return [int(graph["tensors"][n]["shape"][-1]) for n in graph[side]]


@once
@only_tensorflow
def test_the_file_has_the_order_of_the_model_in_its_records_and_bytes():
    model = swapped()
    file = convert_model(model, input_signature(model), ConversionConfig())
    for table in (file.model, load_records(file.content, "it")):
        graph = table["subgraphs"][0]
        assert shapes(graph, "inputs") == [3, 5]
        assert shapes(graph, "outputs") == [4, 2]  # Keras sorts the keys: y, z


@once
@only_tensorflow
def test_what_the_converter_orders_well_stays_as_it_gave_it(monkeypatch):
    given = []
    converter = conversion._converter

    def recorded(*args, **options):
        made = converter(*args, **options)
        convert = made.convert
        made.convert = lambda: given.append(convert()) or given[-1]
        return made

    monkeypatch.setattr(conversion, "_converter", recorded)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    file = convert_model(model, input_signature(model), ConversionConfig())
    assert file.content == given[0]


@once
@only_tensorflow
def test_names_that_the_file_does_not_have_are_refused():
    model = swapped()
    content = convert_model(model, input_signature(model), ConversionConfig()).content
    swapped_again = conversion._in_order(["a", "b"], ["y", "z"], content)
    assert shapes(load_records(swapped_again, "it")["subgraphs"][0], "inputs") == [5, 3]
    with pytest.raises(
        ExportError, match=r"expected \['y', 'x'\], got \['y', 'z'\].*each tensor once"
    ):
        conversion._in_order(["a", "b"], ["y", "x"], content)


@once
@only_tensorflow
def test_weights_of_four_bits_are_rounded_from_floats():
    model = keras.Sequential([keras.Input((40,)), layers.Dense(40, use_bias=False)])
    data = np.random.default_rng(0).normal(size=(20, 40)).astype("float32")
    config = ConversionConfig(quantization="int8x4")
    file = convert_model(model, input_signature(model), config, [data])
    (scales,) = (
        tensor["quantization"]["scale"]
        for tensor in file.model["subgraphs"][0]["tensors"]
        if tuple(tensor["shape"]) == (40, 40) and tensor["quantization"]
    )
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel).T
    assert (np.abs(kernel).max(axis=1) / 7 > scales).any()  # the largest may be cut
