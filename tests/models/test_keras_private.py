"""What Keras keeps to itself is still there, and is touched in one module only."""

import ast
import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import penjing
from penjing.models import keras_private

PACKAGE = Path(penjing.__file__).parent
# LiteRT's interpreter, TensorFlow's converter and `os` have them, not Keras.
OTHERS = {
    "_exit",
    "_experimental_calibrate_only",
    "_get_full_signature_list",
    "_get_ops_details",
    "_get_tensor_details",
}


def is_private(name):
    return name.startswith("_") and not name.endswith("_")  # `__x__`, `_value_`


def attributes(tree):
    return {
        node.attr: node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr)
    }


def texts(tree):
    return {
        node.value: node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def own_names(tree):
    """Names that a module defines, or gives to `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from [node.attr] if ast.unparse(node.value) == "self" else []


@pytest.fixture(scope="module")
def modules():
    found = {p: ast.parse(p.read_text("utf-8")) for p in PACKAGE.rglob("*.py")}
    private = found.pop(Path(keras_private.__file__))
    return found, private


@pytest.mark.once
def test_no_other_module_touches_a_private_name_of_keras(modules):
    others, private = modules
    names = {*attributes(private), *filter(is_private, texts(private))}
    assert "_flatten_layers" in names and "_compile_loss" in names
    found = [
        f"{path}:{line} {name}"
        for path, tree in others.items()
        for foreign in [names - set(own_names(tree))]
        for name, line in {**texts(tree), **attributes(tree)}.items()
        if name in foreign
    ]
    assert not found


@pytest.mark.once
def test_every_other_private_attribute_is_of_penjing(modules):
    others, _ = modules
    own = {name for tree in others.values() for name in own_names(tree)} | OTHERS
    found = [
        f"{path}:{line} {name}"
        for path, tree in others.items()
        for name, line in attributes(tree).items()
        if name not in own
    ]
    assert not found


@pytest.mark.once
def test_no_other_module_imports_the_inside_of_keras(modules):
    others, private = modules

    def imports(tree):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                yield node.module or ""
            elif isinstance(node, ast.Import):
                yield from (name.name for name in node.names)

    assert any(name.startswith("keras.src") for name in imports(private))
    assert not [
        path
        for path, tree in others.items()
        if any(name.startswith("keras.src") for name in imports(tree))
    ]


@pytest.fixture
def nested():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="deep")])
    return keras.Sequential(
        [keras.Input((4,)), inner, keras.layers.Dropout(0.5, name="drop")]
    )


def test_layers_are_found_at_every_depth_or_at_the_first(nested):
    names = [layer.name for layer in keras_private.all_layers(nested)]
    assert names[0] == nested.name
    assert {"deep", "drop", nested.layers[0].name} < set(names)
    direct = [layer.name for layer in keras_private.direct_layers(nested)]
    assert "drop" in direct and "deep" not in direct and nested.name not in direct


def test_the_own_variables_of_a_layer_are_not_those_within_it(nested):
    assert keras_private.own_variables(nested) == []
    norm = keras.layers.BatchNormalization()
    norm.build((None, 4))
    assert keras_private.own_variables(norm) == [
        norm.gamma,
        norm.beta,
        norm.moving_mean,
        norm.moving_variance,
    ]


def test_the_variable_behind_a_computed_kernel_is_found():
    dense = keras.layers.Dense(3)
    dense.build((None, 4))
    stored = dense.kernel
    dense.enable_lora(2)
    assert dense.kernel is not stored
    assert keras_private.stored_variable(dense, "kernel") is stored
    assert keras_private.stored_variable(dense, "bias") is dense.bias
    assert keras_private.stored_variable(dense, "units") is None
    assert keras_private.stored_variable(dense, "nothing") is None


def test_what_is_frozen_by_itself_is_told_from_what_stands_in_a_frozen_model(nested):
    deep = nested.layers[0].layers[0]
    other = keras.layers.Dense(3)
    deep.trainable = False
    keras_private.copy_frozen(deep, other)
    assert not other.trainable
    deep.trainable = True
    keras_private.copy_frozen(deep, other)
    assert other.trainable


def test_a_variable_takes_another_path():
    dense = keras.layers.Dense(3, name="dense")
    dense.build((None, 4))
    keras_private.set_path(dense.kernel, "elsewhere/kernel")
    assert dense.kernel.path == "elsewhere/kernel"
    assert dense.kernel.name == "kernel"


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
def test_an_input_shape_goes_over_to_a_layer_around():
    inner, outer = keras.layers.Dense(3, input_shape=(4,)), keras.layers.Dense(3)
    assert keras_private.given_input_shape(outer) is None
    keras_private.take_input_shape(outer, outer)
    assert keras_private.given_input_shape(outer) is None
    keras_private.take_input_shape(inner, outer)
    assert keras_private.given_input_shape(outer) == (4,)
    assert keras.Sequential([outer]).built


def test_a_lambda_knows_the_shape_it_was_given():
    layer = keras.layers.Lambda(lambda x: x, output_shape=(7,))
    assert tuple(keras_private.lambda_output_shape(layer)) == (7,)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.MultiHeadAttention(2, 3),
        keras.layers.GroupQueryAttention(3, 4, 2),
    ],
)
def test_the_parts_of_attention_are_told_apart(layer):
    layer.build((None, 5, 8), (None, 5, 8))
    parts = keras_private.attention_parts(layer)
    kernels = [part.kernel for part in parts if part is not None]
    assert len(kernels) == 4
    assert sum(kernel.shape[0] == 8 for kernel in kernels) == 3
    assert parts.output.kernel.shape[-1] == 8
    assert parts.gate is None


def test_calls_of_a_graph_come_in_their_order_without_inputs():
    image = keras.Input((4,), name="image")
    shared = keras.layers.Dense(4, name="shared")
    once = shared(image)
    model = keras.Model(image, shared(keras.layers.ReLU(name="relu")(once)))
    nodes = list(keras_private.graph_nodes(model))
    assert [node.operation.name for node in nodes] == ["shared", "relu", "shared"]
    assert keras_private.operation_behind(model.outputs[0]) is shared
    assert keras_private.operation_behind(model.inputs[0]).name == "image"


def test_a_built_sequential_has_a_graph_and_a_layer_has_none(nested):
    graph = keras_private.functional_of(nested)
    operations = [node.operation for node in keras_private.graph_nodes(graph)]
    assert operations == nested.layers
    assert keras_private.functional_of(nested.layers[1]) is None
    assert keras_private.functional_of(keras.Sequential([])) is None


def test_inputs_are_changed_as_a_list_in_the_order_of_the_model():
    inputs = {"b": keras.Input((1,), name="b"), "a": keras.Input((1,), name="a")}
    model = keras.Model(inputs, keras.layers.Subtract()([inputs["a"], inputs["b"]]))
    given = {"a": np.array([[5.0]]), "b": np.array([[3.0]])}
    order = [tensor.name for tensor in model.inputs]

    def double_b(values):
        return [v * 2 if n == "b" else v for n, v in zip(order, values, strict=True)]

    doubling = keras_private.running_otherwise(model, lambda each: each, double_b)
    assert float(doubling(given)[0, 0]) == -1.0
    assert float(model(given)[0, 0]) == 2.0


def test_what_a_call_takes_is_known(nested):
    assert keras_private.takes_training(nested.layers[1])
    assert not keras_private.takes_training(keras.layers.ReLU())
    summed = keras.Input((2,)) + 1.0
    assert not keras_private.takes_training(keras_private.operation_behind(summed))
    assert keras_private.takes_mask(keras.layers.LSTM(2))
    assert not keras_private.takes_mask(keras.layers.Dense(2))
    signature = keras_private.call_signature(keras.layers.LSTM(2))
    assert set(signature.parameters) >= {"sequences", "mask", "training"}


def test_a_wrapper_takes_the_arguments_of_what_it_wraps():
    class Wrapper(keras.layers.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            signature = inspect.signature(inner.call)
            keras_private.take_call_over(inner, self, signature)

        def call(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    wrapped = Wrapper(keras.layers.Attention())
    x = np.ones((1, 2, 3), "float32")
    assert wrapped([x, x]).shape == (1, 2, 3)
    assert list(keras_private.call_signature(wrapped).parameters)[0] == "inputs"


def test_calls_in_one_forward_pass_are_told_from_those_in_the_next():
    seen = []

    class Noting(keras.layers.Layer):
        def call(self, x):
            seen.append(keras_private.forward_pass(self))
            return x

    layer = Noting()
    twice = keras.Sequential([keras.Input((1,)), layer, layer])
    seen.clear()
    x = np.ones((1, 1), "float32")
    twice(x)
    twice(x)
    assert seen[0] is seen[1] and seen[2] is seen[3]
    assert seen[0] is not seen[2]


def test_losses_of_calls_are_forgotten_and_regularizers_stay():
    layer = keras.layers.Dense(
        2, activity_regularizer=keras.regularizers.L2(1.0), kernel_regularizer="l2"
    )
    layer(np.ones((1, 3), "float32"))
    assert len(layer.losses) == 2
    keras_private.clear_losses(layer)
    assert len(layer.losses) == 1


def test_writing_an_h5_file_is_noticed(tmp_path):
    seen = []

    class Noting(keras.layers.Layer):
        def call(self, x):
            return x

        def get_config(self):
            seen.append(keras_private.writes_legacy_config())
            return super().get_config()

    model = keras.Sequential([keras.Input((2,)), Noting()])
    model.save(tmp_path / "model.keras")
    assert seen and not any(seen)
    seen.clear()
    model.save(tmp_path / "model.h5")
    assert seen and all(seen)


@pytest.fixture
def compiled():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    loss = keras.losses.MeanSquaredError()
    model.compile("sgd", loss=loss, metrics=["mae"], loss_weights=[2.0])
    return model, loss


def test_a_compiled_model_knows_what_it_was_given(compiled):
    model, loss = compiled
    config = keras_private.compiled_config(model)
    assert config["loss"] is loss
    assert (config["metrics"], config["loss_weights"]) == (["mae"], [2.0])


def test_a_model_computes_the_loss_that_another_was_compiled_with(compiled):
    model, _ = compiled
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    y, y_pred = np.zeros((4, 1), "float32"), np.ones((4, 1), "float32")
    keras_private.build_loss(model, y, y_pred)
    keras_private.build_loss(inner, y, y_pred)  # it has none
    compiled_inner = keras_private.compiled_as(inner, model)
    assert compiled_inner.compiled
    loss = compiled_inner.compute_loss(x=None, y=y, y_pred=y_pred)
    assert float(ops.convert_to_numpy(loss)) == 2.0
    assert not inner.compiled
    assert "_compile_loss" not in vars(inner) or inner._compile_loss is None
    assert keras_private.own_metrics(inner) == []


def test_an_older_signature_of_compute_loss_is_noticed():
    class Older(keras.Model):
        def compute_loss(self, x, y, y_pred, sample_weight=None):
            return 0.0

    assert keras_private.compute_loss_takes_training(keras.Model())
    assert not keras_private.compute_loss_takes_training(Older())


def test_metrics_that_a_model_keeps_itself_are_found():
    class Keeping(keras.Model):
        def __init__(self):
            super().__init__()
            self.seen = keras.metrics.Mean(name="seen")

    model = Keeping()
    assert list(keras_private.own_metrics(model)) == [model.seen]


def test_a_callback_that_joins_later_finds_the_model(compiled):
    model, _ = compiled
    callbacks = keras.callbacks.CallbackList([], model=model)
    assert keras_private.trained_model(callbacks) is model


def test_an_optimizer_knows_the_places_of_its_variables():
    variables = [keras.Variable(np.zeros(2, "float32")) for _ in range(3)]
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    places = [keras_private.variable_index(optimizer, v) for v in variables]
    assert places == [0, 1, 2]


def test_variables_are_what_they_are_around_a_scope():
    variable = keras.Variable(1.0)
    with keras.StatelessScope([(variable, keras.ops.convert_to_tensor(2.0))]) as scope:
        assert float(ops.convert_to_numpy(variable.value)) == 2.0
        with keras_private.OutsideScope(scope):
            assert float(ops.convert_to_numpy(variable.value)) == 1.0
            variable.assign(3.0)
        assert float(ops.convert_to_numpy(variable.value)) == 2.0
    assert float(ops.convert_to_numpy(variable.value)) == 3.0


def test_layers_of_a_rematerializing_scope_are_known():
    with keras.RematScope(mode="full"):
        assert keras_private.is_rematerialized(keras.layers.Dense(2))
    with keras.RematScope(mode="list_of_layers", layer_names=["one"]):
        assert keras_private.is_rematerialized(keras.layers.Dense(2, name="one"))
        assert not keras_private.is_rematerialized(keras.layers.Dense(2, name="two"))
    assert not keras_private.is_rematerialized(keras.layers.Dense(2))
