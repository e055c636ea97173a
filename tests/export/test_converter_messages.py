"""What the converter says, told in sentences."""

from __future__ import annotations

import re

import keras
import pytest
from keras import layers, ops

import penjing
from penjing.export.converter_messages import explain

MISSING = (
    'error: loc(callsite(fused["AsString:", "functional_1/hashing_1/AsString@__inf_3"] '
    'at callsite(fused["StatefulPartitionedCall:", "StatefulPartitionedCall"]))): '
    "'tf.AsString' op is neither a custom op nor a flex op\n"
    'error: loc(fused["Complex:", "functional_1/Complex@__inference_serve"]): '
    "'tf.Complex' op is neither a custom op nor a flex op"
)


def test_operations_without_a_kernel_are_named_with_their_layers():
    said = explain(MISSING, {"hashing", "dense"}, "float32")
    assert "no kernel for these operations as the model uses them: " in said
    assert "AsString (in the layer `hashing`), Complex." in said
    assert "another `quantization`" not in said


@pytest.mark.parametrize(
    ("text", "activations", "expected"),
    [
        ("'tfl.cast' op quantization failed", "int8", "It stops at cast. Replace"),
        ("failed to legalize operation 'tfl.abs'", "int8", "It stops at abs. Replace"),
        (
            "Max and min for dynamic tensors should be recorded: x",
            "int16",
            'use quant.*"int8"',
        ),
        (
            "Tried to export a function which references an 'untracked' resource.",
            "float32",
            r"stateful=True.*tf\.Variable",
        ),
        ("Segmentation", "float32", "It names no operation. .* another `quantization`"),
    ],
)
def test_other_failures_say_what_is_known(text, activations, expected):
    assert re.search(expected, explain(text, (), activations))


@pytest.mark.once
def test_a_refused_export_names_layer_and_operation(tmp_path):
    inputs = keras.Input((3,), dtype="int32")
    x = layers.Embedding(5, 3)(layers.Hashing(5, name="buckets")(inputs))
    model = keras.Model(inputs, ops.erfinv(x))
    with pytest.raises(penjing.ExportError) as caught:
        penjing.export_litert(model, tmp_path / "m.tflite")
    first = str(caught.value).splitlines()[0]
    assert "AsString (in the layer `buckets`)" in first
    assert "compute them outside" in first
