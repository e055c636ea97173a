"""The engine around one layer, inside models of every kind."""

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.model_cases import ROWS, words
from tests.engine.own_cases import Base, built
from tests.engine.training_cases import (
    BATCH,
    assert_same_weights,
    make_data,
    make_loss,
    ramp,
    to_array,
    zeros,
)
from tests.jax_cases import few_on_jax

import penjing
from penjing import OneShot, prune_layer
from penjing.engine.transforms.pruning_transform import Prune, PruningConfig

RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 4)).astype("float32")
Y = RNG.normal(size=(ROWS, 2)).astype("float32")
SEQUENCES = RNG.normal(size=(ROWS, 5, 4)).astype("float32")


def array(value):
    return keras.ops.convert_to_numpy(value).copy()


def compile_like(model):
    jit = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
    return model


def wrap(layer):
    return prune_layer(layer, OneShot(0.5, step=2))


def keep(layer):
    return layer


def in_sequential(wrapped):
    return keras.Sequential(
        [
            layers.Input((4,)),
            wrapped(layers.Dense(6, activation="relu", name="dense")),
            layers.Dense(2, name="head"),
        ]
    )


def beside_operations(wrapped):
    inputs = layers.Input((4,))
    y = wrapped(layers.Dense(4, name="dense"))(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")((inputs + y) * 0.5))


def shared(wrapped):
    inputs = layers.Input((4,))
    dense = wrapped(layers.Dense(4, name="dense"))
    return keras.Model(inputs, layers.Dense(2, name="head")(dense(dense(inputs))))


def nested(wrapped):
    inner = keras.Sequential(
        [layers.Input((4,)), wrapped(layers.Dense(3, name="dense"))], name="inner"
    )
    inputs = layers.Input((4,))
    return keras.Model(inputs, layers.Dense(2, name="head")(inner(inputs)))


def masked(wrapped):
    return keras.Sequential(
        [
            layers.Input((5,)),
            wrapped(layers.Embedding(7, 4, mask_zero=True, name="words")),
            wrapped(layers.LSTM(3, name="lstm", return_sequences=True)),
            wrapped(layers.Bidirectional(layers.GRU(1, name="gru"), name="both")),
        ]
    )


def attention(wrapped):
    inputs = layers.Input((5, 4))
    mha = wrapped(layers.MultiHeadAttention(2, 3, name="mha"))
    y = mha(inputs, inputs, key=inputs * 2.0, use_causal_mask=True)
    return keras.Model(inputs, layers.Dense(2, name="head")(y[:, 0]))


def in_time(wrapped):
    inputs = layers.Input((5, 4))
    each = wrapped(layers.TimeDistributed(layers.Dense(3, name="each"), name="times"))
    y = layers.GlobalAveragePooling1D()(each(inputs))
    return keras.Model(inputs, layers.Dense(2, name="head")(y))


def regularized(wrapped):
    dense = layers.Dense(
        6,
        name="dense",
        kernel_regularizer="l2",
        activity_regularizer=keras.regularizers.L1(0.1),
    )
    head = layers.Dense(2, name="head")
    return keras.Sequential([layers.Input((4,)), wrapped(dense), head])


MODELS = {
    "sequential": (in_sequential, X, [12]),
    "beside_operations": (beside_operations, X, [8]),
    "shared": (shared, X, [8]),
    "nested": (nested, X, [6]),
    "masked": (masked, words(5)(RNG), [14, 24, 18, 5, 1, 5, 1]),
    "attention": (attention, SEQUENCES, [12, 12, 12, 12]),
    "time_distributed": (in_time, SEQUENCES, [6]),
    "regularized": (regularized, X, [12]),
}


def own_weights(model):
    """Weights of the plain model, or of the layers inside the compressed ones."""
    found = []
    for layer in model.layers:
        if isinstance(layer, penjing.CompressedLayer):
            layer = layer.layer
        inner = isinstance(layer, keras.Model)
        found += own_weights(layer) if inner else layer.weights
    return found


@pytest.mark.parametrize("name", few_on_jax(MODELS, "shared", "nested", "regularized"))
def test_it_trains_as_the_plain_layer_until_it_is_pruned_exactly(name):
    make, x, zeros = MODELS[name]
    plain, model = make(keep), make(wrap)
    for mine, yours in zip(own_weights(plain), own_weights(model), strict=True):
        mine.assign(array(yours.value))
    np.testing.assert_array_equal(array(model(x)), array(plain(x)))

    expected = compile_like(plain).train_on_batch(x, Y)
    # Two compiled programs may order float32 sums in two ways.
    np.testing.assert_allclose(
        compile_like(model).train_on_batch(x, Y), expected, rtol=1e-5
    )
    for mine, yours in zip(own_weights(plain), own_weights(model), strict=True):
        np.testing.assert_allclose(
            array(mine.value), array(yours.value), rtol=1e-4, atol=1e-6
        )

    model.train_on_batch(x, Y)
    report = penjing.sparsity_report(model)
    assert [row.zeros for row in report.rows if row.status == "compressed"] == zeros
    assert penjing.is_compressed(model)
    stripped = penjing.strip(model)
    np.testing.assert_array_equal(array(stripped(x)), array(model(x)))
    assert not penjing.is_compressed(stripped)
    classes = [type(layer) for layer in stripped._flatten_layers()]
    assert classes == [type(layer) for layer in plain._flatten_layers()]
    in_place = penjing.strip(model, copy=False)
    np.testing.assert_array_equal(array(in_place(x)), array(stripped(x)))


@pytest.mark.parametrize("name", few_on_jax(MODELS, "beside_operations", "masked"))
def test_a_model_with_compressed_layers_survives_a_file(name, tmp_path):
    make, x, zeros = MODELS[name]
    model = make(wrap)
    model(x, training=True), model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(loaded(x)), array(model(x)))
    rows = penjing.sparsity_report(loaded).rows
    assert [row.zeros for row in rows if row.status == "compressed"] == zeros
    np.testing.assert_array_equal(array(penjing.strip(loaded)(x)), array(model(x)))


def test_a_layer_called_twice_counts_one_step_for_each_forward_pass():
    model = shared(wrap)
    (layer,) = (x for x in model.layers if isinstance(x, penjing.CompressedLayer))
    for step in (1, 2, 3):
        model(X, training=True)
        assert int(array(layer.step.value)) == step
    model(X), model(X, training=False)
    assert int(array(layer.step.value)) == 3
    compile_like(model).fit(X, Y, batch_size=2, verbose=0)
    assert int(array(layer.step.value)) == 6


class OwnLoss(keras.Model):
    """Subclassed, with compressed layers and a loss of its own."""

    def __init__(self, wrapped=keep):
        super().__init__()
        self.hidden = wrapped(layers.Dense(6, name="hidden"))
        self.head = layers.Dense(2, name="head")

    def call(self, inputs, training=None):
        kwargs = {} if isinstance(self.hidden, layers.Dense) else {"training": training}
        return self.head(self.hidden(inputs, **kwargs))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        return keras.ops.mean(keras.ops.abs(y - y_pred))


def test_in_a_subclassed_model_with_its_own_loss():
    model = OwnLoss(wrap)
    compile_like(model).fit(X, Y, batch_size=2, epochs=1, verbose=0)
    rows = penjing.sparsity_report(model).rows
    assert [row.zeros for row in rows if row.status == "compressed"] == [12]
    with pytest.raises(
        penjing.UnsupportedModelError, match="subclassed model .*strip_layer"
    ):
        penjing.strip(model)
    plain = OwnLoss()
    plain(X)
    plain.hidden.set_weights(penjing.strip_layer(model.hidden).get_weights())
    plain.head.set_weights(model.head.get_weights())
    assert np.count_nonzero(array(plain.hidden.kernel)) == 12
    np.testing.assert_array_equal(array(plain(X)), array(model(X)))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_that_of_the_layer(policy):
    keras.config.set_dtype_policy(policy)
    plain, model = in_sequential(keep), in_sequential(wrap)
    keras.config.set_dtype_policy("float32")
    for mine, yours in zip(own_weights(plain), own_weights(model), strict=True):
        mine.assign(array(yours.value))
    expected, outputs = plain(X), model(X)
    assert outputs.dtype == expected.dtype
    np.testing.assert_array_equal(
        array(keras.ops.cast(outputs, "float32")),
        array(keras.ops.cast(expected, "float32")),
    )
    model(X, training=True), model(X, training=True)
    kernel = model.layers[0].layer.kernel
    assert keras.backend.standardize_dtype(kernel.dtype) == "float32"
    assert np.count_nonzero(array(penjing.strip(model).layers[0].kernel)) == 12


def test_random_states_and_statistics_inside_the_layer_advance():
    class Noisy(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            self.drop, self.norm = layers.Dropout(0.5), layers.BatchNormalization()
            self.norm.build((None, self.units))

        def call(self, inputs, training=None):
            outputs = self.drop(super().call(inputs), training=training)
            return self.norm(outputs, training=training)

    layer = prune_layer(Noisy(64), OneShot(0.5, step=100))
    first, second = (array(layer(X, training=True)) for _ in range(2))
    assert ((first == 0) != (second == 0)).any() or (first != second).any()
    assert np.abs(array(layer.layer.norm.moving_mean)).max() > 0
    np.testing.assert_array_equal(array(layer(X)), array(layer(X)))


def test_write_back_puts_the_zeros_into_the_weights():
    layer = prune_layer(layers.Dense(6), OneShot(0.5))
    outputs = layer(X, training=True)
    assert np.count_nonzero(array(layer.layer.kernel)) == 24
    layer.write_back()
    assert np.count_nonzero(array(layer.layer.kernel)) == 12
    np.testing.assert_array_equal(array(layer(X)), array(outputs))


def test_the_options_of_a_pattern_and_an_importance_apply():
    layer = prune_layer(
        layers.Dense(6),
        OneShot(0.5),
        pattern=penjing.NM(2, 4),
        importance=lambda w: keras.ops.abs(w),
    )
    layer(X, training=True)
    kernel = array(penjing.strip_layer(layer).kernel)
    assert (np.count_nonzero(kernel, axis=0) == 2).all()


def test_strip_layer_copies_or_gives_the_layer_itself():
    dense = layers.Dense(6)
    layer = prune_layer(dense, OneShot(0.5))
    layer(X, training=True)
    twin = penjing.strip_layer(layer)
    assert twin is not dense
    assert np.count_nonzero(array(dense.kernel)) == 24
    assert penjing.strip_layer(layer, copy=False) is dense
    np.testing.assert_array_equal(array(dense.kernel), array(twin.kernel))


@pytest.mark.filterwarnings("ignore:.*unbuilt state")  # Keras, of the layer within
def test_a_layer_that_was_built_by_its_shape_is_pruned_too():
    wrapped = penjing.prune_layer(layers.Dense(6), penjing.OneShot(0.5))
    wrapped.build(X.shape)
    wrapped(X, training=True)
    kernel = array(penjing.strip_layer(wrapped).kernel)
    assert np.count_nonzero(kernel) == kernel.size // 2


def test_an_unbuilt_layer_is_stripped_unbuilt():
    twin = penjing.strip_layer(prune_layer(layers.Dense(6, name="d"), OneShot(0.5)))
    assert (twin.name, twin.built) == ("d", False)


def test_what_is_no_layer_is_refused():
    with pytest.raises(ValueError, match="must be a Keras 3 layer, got .*str"):
        prune_layer("dense", OneShot(0.5))
    with pytest.raises(penjing.UnsupportedModelError, match="is a model"):
        prune_layer(in_sequential(keep), OneShot(0.5))
    with pytest.raises(ValueError, match="takes penjing transforms, got 'mask'"):
        penjing.CompressedLayer(layers.Dense(2), ["mask"])


def test_a_layer_with_nothing_to_prune_is_refused_when_it_is_built():
    layer = prune_layer(layers.BatchNormalization(name="norm"), OneShot(0.5))
    with pytest.raises(penjing.UnsupportedModelError, match="'norm' has no weight"):
        layer(X)


def test_the_constructor_takes_transforms():
    config = PruningConfig(schedule=OneShot(0.5))
    layer = penjing.CompressedLayer(layers.Dense(6), [Prune(config)], name="own")
    layer(X, training=True)
    assert layer.name == "own"
    assert penjing.sparsity_report(layer).sparsity == 0.5


class WrapsItsLayers(Base):
    """The way out: single layers pruned inside a model that keeps its own step."""

    def __init__(self, schedule, **kwargs):
        super().__init__(**kwargs)
        self.hidden = penjing.prune_layer(self.hidden, schedule)
        self.head = penjing.prune_layer(self.head, schedule)
        self.steps_taken = 0

    def call(self, inputs, training=None):
        # Passed on by name, as for Dropout: on JAX, Keras does not do it by itself.
        return self.head(self.hidden(inputs, training=training), training=training)

    def build(self, input_shape):
        self.head(self.hidden(keras.KerasTensor((None, 8))))
        self.built = True

    def train_step(self, *args):
        self.steps_taken += 1
        return super().train_step(*args)


def test_wrapped_layers_train_in_a_model_with_its_own_step():
    x, y = make_data()
    plain = built(Base())
    model = built(WrapsItsLayers(ramp(begin_step=9, end_step=15)))
    for mine, yours in zip(
        model.trainable_variables, plain.trainable_variables, strict=True
    ):
        mine.assign(to_array(yours))
    for each in (plain, model):
        each.compile(keras.optimizers.SGD(0.1), make_loss())
        each.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False)
    assert model.steps_taken > 0
    assert_same_weights(model, plain)

    model.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False)
    before = to_array(model(x))
    for layer in (model.hidden, model.head):
        assert int(to_array(layer.step)) == 16
        stripped = penjing.strip_layer(layer)
        assert float((to_array(stripped.kernel) == 0).mean()) == 0.75
        layer.write_back()
    assert set(zeros(model).values()) == {0.75}
    np.testing.assert_array_equal(to_array(model(x)), before)


def test_wrapped_layers_of_a_sequential_model_are_stripped_by_penjing():
    x, y = make_data()
    model = keras.Sequential(
        [
            keras.Input((8,)),
            penjing.prune_layer(keras.layers.Dense(16, activation="relu"), ramp()),
            keras.layers.Dense(4),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), make_loss())
    model.fit(x, y, BATCH, epochs=2, verbose=0)
    stripped = penjing.strip(model)
    assert sorted(zeros(stripped).values()) == [0.0, 0.75]
    np.testing.assert_allclose(to_array(stripped(x)), to_array(model(x)), atol=1e-6)


def test_wrapped_layer_counts_one_step_for_several_calls():
    x, _ = make_data()
    shared = penjing.prune_layer(keras.layers.Dense(8, name="shared"), ramp())
    inputs = keras.Input((8,))
    model = keras.Model(inputs, shared(shared(inputs)))
    model.compile("sgd", "mse")
    model.fit(x, x, BATCH, epochs=1, verbose=0)
    assert int(to_array(shared.step)) == 4
    model.train_on_batch(x, x)
    assert int(to_array(shared.step)) == 5


def test_layers_that_never_saw_training_are_reported_by_strip():
    class ForgetsTraining(Base):
        def __init__(self):
            super().__init__()
            self.hidden = penjing.prune_layer(self.hidden, penjing.OneShot(0.5))

        def build(self, input_shape):
            self.hidden(keras.KerasTensor((None, 8)))
            super().build(input_shape)

    x, y = make_data()
    model = built(ForgetsTraining())
    model.compile(keras.optimizers.SGD(0.1), make_loss())
    model.fit(x, y, BATCH, verbose=0)
    with pytest.warns(penjing.CompressionWarning, match="`training=training`"):
        penjing.strip_layer(model.hidden)
