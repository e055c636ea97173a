"""The open table of compressible weights."""

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.models.layer_specs import find_weight_specs


class Projection(layers.Layer):
    """A layer with a matrix of shape (outputs, inputs)."""

    def build(self, input_shape):
        shape = (3, input_shape[-1])
        self.matrix = self.add_weight(shape=shape, name="matrix")

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.matrix))


@pytest.fixture
def registered():
    """The table with `Projection`, then as it was."""
    from penjing.models import layer_specs

    before = dict(layer_specs._SPECS)
    spec = penjing.WeightSpec(attribute="matrix", output_axes=(0,))
    penjing.register_layer_spec(Projection, [spec])
    yield spec
    layer_specs._SPECS.clear()
    layer_specs._SPECS.update(before)


def model_of(layer):
    return keras.Sequential([layers.Input((4,)), layer])


@pytest.mark.parametrize(
    ("layer", "attributes"),
    [
        (layers.Dense(2), ["kernel"]),
        (layers.Conv2D(2, 3), ["kernel"]),
        (layers.SeparableConv2D(2, 3), ["depthwise_kernel", "pointwise_kernel"]),
        (layers.Embedding(5, 2), ["embeddings"]),
        (layers.LSTMCell(2), ["kernel", "recurrent_kernel"]),
        (layers.BatchNormalization(), []),
        (layers.ReLU(), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_specs_of_keras_layers(layer, attributes):
    assert [spec.attribute for spec in find_weight_specs(layer)] == attributes


def test_a_subclass_takes_the_specs_of_its_nearest_base():
    class Special(layers.Dense):
        pass

    assert find_weight_specs(Special(2)) == find_weight_specs(layers.Dense(2))


def test_an_unknown_layer_is_skipped_with_the_way_to_add_it():
    model = keras.Sequential(
        [layers.Input((4,)), Projection(name="own"), layers.Dense(2)]
    )
    pruned = penjing.prune(model, penjing.OneShot(0.5))
    (row,) = (
        row
        for row in penjing.sparsity_report(pruned).rows
        if row.path.endswith("own/matrix")
    )
    assert row.status == "skipped"
    assert "no Projection.matrix; penjing.register_layer_spec adds it" in row.reason


def test_a_registered_layer_is_pruned_as_a_matrix_of_its_axes(registered):
    assert find_weight_specs(Projection()) == (registered,)
    model = model_of(Projection())
    pruned = penjing.prune(model, penjing.OneShot(0.5), pattern=penjing.NM(2, 4))
    pruned(np.ones((1, 4), "float32"), training=True)
    matrix = keras.ops.convert_to_numpy(penjing.strip(pruned).layers[0].matrix.value)
    # n:m runs along the inputs, which are the rows of this matrix.
    assert (np.count_nonzero(matrix, axis=1) == 2).all()


def test_registering_again_replaces(registered):
    reason = "kept whole in this test"
    spec = penjing.WeightSpec(attribute="matrix", skip_reason=reason)
    penjing.register_layer_spec(Projection, [spec])
    with pytest.raises(penjing.UnsupportedModelError, match=reason):
        penjing.prune(model_of(Projection()), penjing.OneShot(0.5))
    named = penjing.prune(
        model_of(Projection(name="own")), penjing.OneShot(0.5), include="own"
    )
    assert penjing.sparsity_report(named).rows[0].status == "compressed"


@pytest.mark.once
@pytest.mark.parametrize("bad", [None, 3, "Dense", layers.Dense(2), int])
def test_what_is_no_layer_class_is_refused(bad):
    with pytest.raises(ValueError, match="must be a subclass of keras.layers.Layer"):
        penjing.register_layer_spec(bad, [])


@pytest.mark.once
@pytest.mark.parametrize("bad", ["kernel", ["kernel"], [None], 3])
def test_what_is_no_weight_spec_is_refused(bad):
    with pytest.raises(ValueError, match="`weights` must be a list of"):
        penjing.register_layer_spec(Projection, bad)
    assert find_weight_specs(Projection()) == ()
