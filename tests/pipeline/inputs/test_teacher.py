"""Labels that a model gives, and by what files are compared with them."""

import keras
import numpy as np
import pytest

from penjing.data.data_sources import UserData
from penjing.errors import (
    CompressionError,
    CompressionWarning,
    DataError,
    UnsupportedModelError,
)
from penjing.measurement.accuracy import evaluate
from penjing.pipeline.inputs.teacher import judged_by_labels, taught_by_itself
from penjing.pipeline.learning_rate import own_learning_rate
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.training import evaluation_arguments

pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:Even though the .tf.config"),
]


@pytest.fixture(autouse=True, scope="module")
def nothing_is_compiled():
    config = pytest.importorskip("tensorflow").config
    config.run_functions_eagerly(True)
    yield
    config.run_functions_eagerly(False)


X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
DATA = UserData(train=(X, None), test=(X[:30], None), source="mine")


def make_model(units, activation=None, loss=None):
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense(units, activation=activation)
    model = keras.Sequential([keras.Input((4,)), dense])
    if loss is not None:
        model.compile("sgd", loss)
    return model


def scores(model, data):
    return model.evaluate(*data.test, verbose=0, return_dict=True)


SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
MULTIPLE = keras.losses.BinaryCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("arguments", "metric"),
    [
        ((3, "softmax"), "agreement"),  # not compiled: probabilities show
        ((3, None, SPARSE), "agreement"),
        ((3, "softmax", "categorical_crossentropy"), "agreement"),
        ((1, "sigmoid"), "agreement"),
        ((3, None, MULTIPLE), "agreement"),
        ((3, None), "r2_score"),
        ((1, None, "mae"), "r2_score"),
        ((20, None), "cosine_similarity"),
        ((20, None, "mse"), "r2_score"),
    ],
)
def test_a_model_agrees_with_itself_and_another_does_not(arguments, metric):
    model = make_model(*arguments)
    twin, data = taught_by_itself(model, DATA)
    assert [name for name in scores(twin, data) if name != "loss"] == [metric]
    assert scores(twin, data)[metric] == pytest.approx(1.0, abs=1e-5)
    twin.set_weights([-values for values in twin.get_weights()])
    assert scores(twin, data)[metric] < 0.5
    assert metric in data.notes[-1]
    assert data.train[0] is DATA.train[0]
    assert model.compiled == (len(arguments) == 3)


def test_training_by_ones_own_outputs_brings_a_model_back():
    twin, data = taught_by_itself(make_model(3, "softmax"), DATA)
    twin.set_weights([0.01 * values for values in twin.get_weights()])
    twin.optimizer.learning_rate.assign(0.1)
    twin.fit(*data.train, epochs=30, verbose=0)
    assert scores(twin, data)["agreement"] > 0.9


def test_the_rate_stays_that_of_the_model():
    model = make_model(3, "softmax")
    assert own_learning_rate(taught_by_itself(model, DATA)[0], "adam") is None
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    twin, _ = taught_by_itself(model, DATA)
    assert own_learning_rate(twin, "adam") == pytest.approx(0.02)


def test_the_metric_may_be_named():
    model = make_model(3)
    for metric in ("agreement", "cosine_similarity"):
        twin, data = taught_by_itself(model, DATA, metric)
        assert scores(twin, data)[metric] == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="Did you mean 'agreement'"):
        taught_by_itself(model, DATA, "agrement")


def test_outputs_with_several_axes_are_compared_along_the_last_that_is_wide():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    x = np.random.default_rng(0).normal(size=(8, 5, 4)).astype("float32")
    data = UserData(train=(x, None), test=(x, None), source="mine")
    twin, data = taught_by_itself(model, data)
    assert scores(twin, data)["cosine_similarity"] == pytest.approx(1.0, abs=1e-5)
    twin.set_weights([-values for values in twin.get_weights()])
    assert scores(twin, data)["cosine_similarity"] < -0.9
    # As a search measures: by metrics that are made anew.
    x, y = data.test
    arguments = evaluation_arguments(twin, TrainingRecipe())
    found = evaluate(model, x, np.sign(y) * abs(y) ** 3, **arguments)
    assert found["cosine_similarity"] < 0.99
    with pytest.raises(UnsupportedModelError, match="have no r2_score"):
        taught_by_itself(model, data, "r2_score")


def test_what_says_nothing_is_refused():
    constant = make_model(3, "softmax")
    constant.set_weights([np.zeros((4, 3)), np.array([1.0, 0.0, 0.0])])
    with pytest.raises(CompressionError, match="same class for all inputs"):
        taught_by_itself(constant, DATA)
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)]
    with pytest.raises(UnsupportedModelError, match="several outputs"):
        taught_by_itself(keras.Model(inputs, outputs), DATA)
    loader = UserData(train=[(X, X)], test=(X, None), source="mine")
    with pytest.raises(DataError, match="train part is a list"):
        taught_by_itself(make_model(3), loader)


@pytest.mark.parametrize(
    ("units", "labels", "metric"),
    [
        (3, X[:, :3].argmax(1), "sparse_categorical_accuracy"),
        (3, np.eye(3)[X[:, :3].argmax(1)], "categorical_accuracy"),
        (1, (X[:, :1] > 0).astype("int32"), "binary_accuracy"),
        (1, X[:, :1], "mae"),
    ],
)
def test_labels_say_what_a_model_without_a_loss_is_judged_by(units, labels, metric):
    model = make_model(units)
    weights = np.eye(4)[:, :units].astype("float32")
    model.set_weights([weights, np.zeros(units)])  # right everywhere
    data = UserData(train=(X, labels), test=(X, labels), source="mine")
    twin = judged_by_labels(model, data)
    assert not model.compiled
    assert scores(twin, data)[metric] == (0.0 if metric == "mae" else 1.0)


def test_several_labels_of_a_sample_are_no_classes():
    model = make_model(3)
    counts = np.round(4 * X[:, :3])
    data = UserData(train=(X, counts), test=(X, counts), source="mine")
    assert judged_by_labels(model, data).loss == "mse"
    several = (X[:, :3] > -0.5).astype("int32")
    data = UserData(train=(X, several), test=(X, several), source="mine")
    assert "binary_accuracy" in scores(judged_by_labels(model, data), data)


def test_each_of_several_sigmoids_is_an_answer_of_its_own():
    model = make_model(3, "sigmoid")
    twin, data = taught_by_itself(model, DATA)
    np.testing.assert_array_equal(data.test[1], model.predict(X[:30]) > 0.5)
    assert scores(twin, data)["agreement"] == 1.0


def test_an_answer_that_is_nearly_always_the_same_is_told():
    model = make_model(3, "softmax")
    model.set_weights([np.eye(4)[:, :3], np.array([0.0, 0.0, 2.6])])
    with pytest.warns(CompressionWarning, match="gives one class for 9[5-9]"):
        taught_by_itself(model, DATA)


def far_off(spread):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    rng = np.random.default_rng(0)
    bias = np.array([20_000.0, -50.0])
    model.layers[0].set_weights([spread * rng.normal(size=(2, 2)), bias])
    return model, rng.normal(size=(400, 2)).astype("f4")


def test_outputs_far_from_zero_are_told_apart():
    model, x = far_off(1.0)
    data = UserData(train=(x,), test=(x,), validation=None, source="")
    twin, taught = taught_by_itself(model, data, "r2_score")
    outputs = taught.test[1]
    spread = outputs.std(axis=0)
    (metric,) = [m for m in twin._compile_metrics._user_metrics]
    for share, score in ((0.0, 1.0), (0.3, 0.91), (1.0, 0.0)):
        noise = share * spread * np.random.default_rng(1).choice([-1, 1], (400, 2))
        again = type(metric).from_config(metric.get_config())
        again.update_state(outputs, outputs + noise)
        assert float(again.result()) == pytest.approx(score, abs=0.02)


def test_outputs_that_never_change_have_no_share_of_their_spread():
    model, x = far_off(0.0)
    data = UserData(train=(x,), test=(x,), validation=None, source="")
    with pytest.raises(CompressionError, match="Output 0 .* no r2_score"):
        taught_by_itself(model, data, "r2_score")
