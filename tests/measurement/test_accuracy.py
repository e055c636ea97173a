"""One number for one model, whatever kind of object or file it is in."""

import keras
import numpy as np
import pytest
from tests.jax_cases import few_on_jax

import penjing
from penjing.errors import DataError, FileFormatError
from penjing.measurement.accuracy import evaluate
from penjing.measurement.scoring import EachOutput


def classifier(classes=3, compiled=False, **options):
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(classes, **options)]
    )
    if compiled:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"])
    return model


def two_outputs():
    a, b = keras.Input((5,), name="a"), keras.Input((2,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    classes = keras.layers.Dense(3, name="classes")(joined)
    value = keras.layers.Dense(1, name="value")(joined)
    return keras.Model([a, b], [classes, value])


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 5)).astype("float32")
    return x, random.integers(0, 3, 300)


def correct(model, x, y):
    """Fraction of right answers, by NumPy."""
    return float((np.asarray(model.predict(x, verbose=0)).argmax(-1) == y).mean())


# Live models and Keras files, on every backend


def test_accuracy_is_the_fraction_of_right_answers(data):
    model = classifier()
    value = evaluate(model, *data)
    assert value == {"accuracy": pytest.approx(correct(model, *data), abs=1e-6)}
    assert type(value["accuracy"]) is float
    assert not model.compiled


def test_it_is_what_keras_own_evaluate_gives(data):
    model = classifier(compiled=True)
    expected = model.evaluate(*data, verbose=0, return_dict=True)
    assert evaluate(model, *data) == {
        "accuracy": pytest.approx(expected["accuracy"], abs=1e-6)
    }


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_gives_what_the_model_gives(data, tmp_path, name):
    model = classifier(compiled=True)
    model.save(tmp_path / name)
    assert evaluate(str(tmp_path / name), *data) == evaluate(model, *data)
    asked = ["sparse_categorical_accuracy", "sparse_categorical_crossentropy"]
    values = evaluate(tmp_path / name, *data, metrics=asked)
    assert list(values) == asked
    assert values == evaluate(model, *data, metrics=asked)


def test_a_compressed_model_is_measured_with_its_zeros(data):
    model = classifier()
    pruned = penjing.prune(model, penjing.OneShot(0.8))
    pruned(data[0][:4], training=True)
    values = evaluate(pruned, *data)
    assert values == evaluate(penjing.strip(pruned), *data)
    assert values != evaluate(model, *data)


@pytest.mark.parametrize("batch_size", few_on_jax([1, 7, 300, 1000], 7))
def test_the_batch_size_changes_nothing(data, batch_size):
    model = classifier()
    x, y = data[0][:40], data[1][:40]
    values = evaluate(model, x, y, batch_size=batch_size)
    assert values["accuracy"] == pytest.approx(correct(model, x, y), abs=1e-6)


def test_accuracy_is_resolved_by_the_shapes_as_keras_does(data):
    x, y = data
    model = classifier()
    sparse = evaluate(model, x, y)
    assert evaluate(model, x, y[:, None]) == sparse
    assert evaluate(model, x, y.astype("float32")) == sparse
    assert evaluate(model, x, np.eye(3)[y]) == sparse
    binary = classifier(1, activation="sigmoid")
    answers = np.asarray(binary.predict(x, verbose=0))[:, 0] > 0.5
    expected = {"accuracy": pytest.approx((answers == (y > 0)).mean(), abs=1e-6)}
    assert evaluate(binary, x, (y > 0).astype(int)) == expected
    assert evaluate(binary, x, y[:, None] > 0) == expected


@pytest.mark.costly_on_jax
def test_metrics_may_be_names_functions_and_objects(data):
    x, y = data
    model = classifier(activation="softmax")

    def always_seven(y_true, y_pred):
        return keras.ops.full((keras.ops.shape(y_true)[0],), 7.0)

    auc = keras.metrics.AUC(name="area", multi_label=True, num_labels=3)
    values = evaluate(model, x, np.eye(3)[y], metrics=["acc", always_seven, auc])
    assert values["acc"] == pytest.approx(correct(model, x, y), abs=1e-6)
    assert values["always_seven"] == 7
    assert 0.2 < values["area"] < 0.8
    again = evaluate(model, x, np.eye(3)[y], metrics=["acc", always_seven, auc])
    assert again == values, "objects are reset"
    assert evaluate(model, x, y, metrics="sparse_categorical_accuracy") == {
        "sparse_categorical_accuracy": values["acc"]
    }


def test_a_model_compiled_with_a_loss_alone_gives_its_loss(data):
    x, _ = data
    y = x[:, :1] * 2
    model = classifier(1)
    model.compile("sgd", "mse")
    expected = float(((np.asarray(model.predict(x, verbose=0)) - y) ** 2).mean())
    assert evaluate(model, x, y) == {"loss": pytest.approx(expected, rel=1e-5)}


def test_training_goes_on_as_if_nothing_was_measured(data):
    model = classifier(compiled=True)
    model.fit(*data, verbose=0)
    weights = model.get_weights()
    evaluate(model, *data, metrics=["accuracy"])
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    history = model.fit(*data, verbose=0).history
    assert set(history) == {"accuracy", "loss"}


@pytest.mark.parametrize("form", ["list", "dict", "arrays by name"])
def test_several_inputs_and_outputs(data, form):
    x, y = data
    model = two_outputs()
    inputs, labels = [x, x[:, :2]], [y, x[:, :1]]
    if form != "list":
        inputs = {"b": x[:, :2], "a": x}
    if form == "arrays by name":
        labels = {"value": x[:, :1], "classes": y}
    metrics = {"classes": ["accuracy"], "value": ["mean_absolute_error"]}
    values = evaluate(model, inputs, labels, metrics=metrics)
    classes, value = model.predict([x, x[:, :2]], verbose=0)
    assert values == {
        "classes_accuracy": pytest.approx((classes.argmax(-1) == y).mean(), abs=1e-6),
        "value_mean_absolute_error": pytest.approx(
            np.abs(value - x[:, :1]).mean(), rel=1e-5
        ),
    }


def test_one_metric_holds_for_every_output(data):
    x, _ = data
    labels = [np.eye(3, dtype="float32")[np.zeros(300, int)], x[:, :1]]
    error = keras.metrics.MeanSquaredError(name="error")
    for metric, name in [("mse", "mse"), (error, "error")]:
        values = evaluate(two_outputs(), [x, x[:, :2]], labels, metrics=metric)
        assert set(values) == {f"classes_{name}", f"value_{name}"}
        assert len(set(values.values())) == 2


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, weights=None):
        super().__init__()
        self.parts = [x, y] if weights is None else [x, y, weights]

    def __len__(self):
        return 3

    def __getitem__(self, number):
        return tuple(part[100 * number : 100 * (number + 1)] for part in self.parts)


def test_a_py_dataset_gives_what_its_arrays_give(data):
    model = classifier()
    assert evaluate(model, Batches(*data)) == evaluate(model, *data)


def test_weights_of_samples_count_in_weighted_metrics(data):
    x, y = data
    model = classifier()
    right = np.asarray(model.predict(x, verbose=0)).argmax(-1) == y
    model.compile(metrics=["accuracy"], weighted_metrics=["accuracy"])
    weights = np.where(right, 3.0, 1.0).astype("float32")
    values = evaluate(model, Batches(x, y, weights))
    assert values["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert values["weighted_accuracy"] == pytest.approx(
        3 * right.sum() / weights.sum(), rel=1e-5
    )


def test_tensors_of_the_backend_are_taken(data):
    model = classifier()
    tensors = [keras.ops.convert_to_tensor(value) for value in data]
    assert evaluate(model, *tensors) == evaluate(model, *data)


def test_progress_is_shown_where_asked(data, capsys):
    evaluate(classifier(), *data, batch_size=100, verbose=1)
    assert "3/3" in capsys.readouterr().out
    evaluate(classifier(), *data, batch_size=100)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((10, 5), (9,), "x has 10, y has 9. Give every sample its label"),
        ((0, 5), (0,), "The data is empty"),
        ((10, 4), (10,), r"takes inputs of shape \(any, 5\), got \(10, 4\)"),
        (
            (10, 5),
            (10, 4),
            r"labels have shape \(10, 4\) and the predictions \(10, 3\)",
        ),
        ((10, 5), None, "`y` is missing"),
        ((10, 5), (), "`y` is a single number"),
    ],
)
def test_data_that_does_not_fit_is_refused(x, y, message):
    labels = None if y is None else np.zeros(y, int)
    with pytest.raises(DataError, match=message):
        evaluate(classifier(), np.zeros(x, "float32"), labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], r"labels go from 0 to 3, but the model has 3 outputs: 0 to 2"),
        ([0, -1, 2], "labels go from -1 to 2"),
        ([0, 0.5, 1], "hold fractions.*name its metrics"),
    ],
)
@pytest.mark.parametrize("metrics", [None, ["sparse_categorical_accuracy"]])
def test_labels_out_of_range_are_refused(labels, message, metrics):
    with pytest.raises(DataError, match=message):
        evaluate(classifier(), np.zeros((3, 5)), np.array(labels), metrics=metrics)


def test_an_ignored_class_is_no_label_out_of_range(data):
    x, y = data
    y = np.where(np.arange(300) < 5, 255, y)
    metric = keras.metrics.SparseCategoricalCrossentropy(name="ce", ignore_class=255)
    with pytest.raises(DataError, match="0 to 255"):
        evaluate(classifier(), x, y, metrics="sparse_categorical_crossentropy")
    try:
        evaluate(classifier(), x, y, metrics=[metric])
    except DataError as error:
        assert "go from" not in str(error)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0.2, 0.7, 0.9]])
def test_accuracy_of_a_single_output_needs_0_and_1(labels):
    with pytest.raises(DataError, match="takes binary labels.*mean_absolute_error"):
        evaluate(classifier(1), np.zeros((3, 5)), np.array(labels))


def test_a_regression_is_measured_by_the_metric_it_names():
    values = evaluate(
        classifier(1), np.zeros((3, 5)), np.array([1.0, 2.0, 6.0]), metrics=["mae"]
    )
    assert values == {"mae": pytest.approx(3.0)}


def test_metrics_that_fail_say_with_which_shapes():
    with pytest.raises(
        DataError, match=r"labels of shape \[\(3, 2\)\] and predictions of .*\(3, 3\)"
    ):
        evaluate(classifier(), np.zeros((3, 5)), np.zeros((3, 2)), metrics=["mse"])
    with pytest.raises(DataError, match="'f1_score' has 3 values"):
        evaluate(classifier(), np.zeros((3, 5)), np.eye(3), metrics=["f1_score"])


def test_labels_for_other_outputs_are_refused(data):
    x, y = data
    inputs = [x, x[:, :2]]
    for labels, message in [
        (y, "has 2 outputs, but there are labels for 1"),
        ({"classes": y, "worth": y}, r"labels are for \['classes', 'worth'\]"),
    ]:
        with pytest.raises(DataError, match=message):
            evaluate(two_outputs(), inputs, labels, metrics=[["mse"], ["mse"]])


class Endless(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return None

    def __getitem__(self, number):
        return np.zeros((1, 5)), np.zeros(1)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (iter([]), "the loader gave no batch"),
        (iter([np.zeros((2, 5))]), r"must give \(x, y\).*got a ndarray"),
        (iter([(np.zeros((2, 5)),)]), "got a tuple of 1"),
        (iter([(np.zeros((2, 5)), np.zeros(3))]), "is the data batched"),
        (iter([(np.zeros(5), np.zeros(()))]), "is the data batched"),
        (iter([(np.zeros((2, 5)), [object(), "a"])]), "holds list objects"),
        (Endless(), "This Endless never ends"),
    ],
)
def test_loaders_that_give_something_else_are_refused(loader, message):
    with pytest.raises(DataError, match=message):
        evaluate(classifier(), loader)


@pytest.mark.once
def test_a_model_from_a_file_that_fails_is_one_error(data, tmp_path, monkeypatch):
    """That of one in memory stays as it is: its code is the user's."""

    def fail(self, x):
        raise KeyError("lost")

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.save(tmp_path / "model.keras")
    x, y = np.zeros((3, 4)), np.zeros(3)
    monkeypatch.setattr(keras.Model, "predict_on_batch", fail)
    said = r"model.keras fails on inputs of shape \(3, 4\): KeyError: 'lost'. The file"
    with pytest.raises(DataError, match=said):
        evaluate(tmp_path / "model.keras", x, y)
    with pytest.raises(KeyError, match="lost"):
        evaluate(model, x, y)


def test_other_refusals(data):
    x, y = data
    with pytest.raises(DataError, match="gives the labels itself; leave out `y`"):
        evaluate(classifier(), Batches(x, y), y)
    for size in (0, 2.5, True):
        with pytest.raises(DataError, match="`batch_size` must be"):
            evaluate(classifier(), x, y, batch_size=size)
    with pytest.raises(FileFormatError, match="got a int. Allowed files: .keras, .h5"):
        evaluate(3, x, y)


# .tflite files


@pytest.mark.once
def test_a_litert_file_gives_what_the_model_gives(converted):
    x = np.load(converted / "data.npz")["x"]
    model = keras.saving.load_model(converted / "model.keras")
    y = np.asarray(model.predict(x, verbose=0)).argmax(-1)
    y[:10] = (y[:10] + 1) % 3
    for metrics in (None, ["accuracy", "sparse_categorical_accuracy"]):
        expected = evaluate(model, x, y, metrics=metrics)
        assert expected["accuracy"] == pytest.approx(0.8)
        file = converted / "float.tflite"
        assert evaluate(file, x, y, metrics=metrics, batch_size=8) == expected
    assert evaluate(file, x[..., 0], y) == evaluate(file, x, y), "as Keras takes it"
    assert evaluate(converted / "int8.tflite", x, y)["accuracy"] > 0.7


@pytest.mark.once
def test_progress_of_a_litert_file_is_shown(converted, capsys):
    x = np.load(converted / "data.npz")["x"]
    evaluate(converted / "float.tflite", x, np.zeros(50, int), verbose=1)
    assert "Evaluating" in capsys.readouterr().out


@pytest.mark.once
def test_a_litert_file_refuses_what_does_not_fit(converted, tmp_path):
    file = converted / "float.tflite"
    zeros = np.zeros(4, int)
    with pytest.raises(DataError, match=r"shape \(samples, 8, 8, 1\), got .*\(4, 7, 7"):
        evaluate(file, np.zeros((4, 7, 7, 1), "float32"), zeros)
    with pytest.raises(DataError, match="0 to 2 are allowed"):
        evaluate(file, np.zeros((4, 8, 8, 1), "float32"), zeros + 3)
    (tmp_path / "cut.tflite").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(FileFormatError, match="cut.tflite"):
        evaluate(tmp_path / "cut.tflite", np.zeros((4, 8, 8, 1)), zeros)


@pytest.mark.once
def test_a_tf_data_set_gives_what_its_arrays_give(data):
    import tensorflow as tf

    model = classifier()
    batched = tf.data.Dataset.from_tensor_slices(data).batch(64)
    assert evaluate(model, batched) == evaluate(model, *data)
    with pytest.raises(DataError, match="never ends.*take"):
        evaluate(model, batched.repeat())
    with pytest.raises(DataError, match="is the data batched"):
        evaluate(model, tf.data.Dataset.from_tensor_slices(data))


@pytest.mark.once
def test_a_data_loader_gives_what_its_arrays_give(data):
    torch = pytest.importorskip("torch")
    model = classifier()
    tensors = [torch.from_numpy(value) for value in data]
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*tensors), batch_size=64
    )
    assert evaluate(model, loader) == evaluate(model, *data)
    assert evaluate(model, *tensors) == evaluate(model, *data)


@pytest.mark.once
def test_metrics_of_each_output():
    inputs = keras.Input((3,))
    outputs = [keras.layers.Dense(2, name=name)(inputs) for name in "ab"]
    model = keras.Model(inputs, outputs)
    x, y = np.ones((4, 3), "f4"), np.zeros((4, 2), "f4")
    found = evaluate(model, x, [y, y], metrics=EachOutput(["mae", "mse"]))
    assert {*found} == {"a_mae", "a_mse", "b_mae", "b_mse"}
    alone = keras.Model(inputs, outputs[0])
    assert {*evaluate(alone, x, y, metrics=EachOutput(["mae", "mse"]))} == {
        "mae",
        "mse",
    }
