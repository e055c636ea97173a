"""Labels and predictions to metrics, without a model."""

import keras
import numpy as np
import pytest

from penjing.errors import DataError
from penjing.measurement.scoring import Scorer, first_metric, unknown_metric

PREDICTED = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], "float32")


def scored(scorer, *batches):
    for batch in batches:
        scorer.update(*batch)
    return scorer.result()


def test_batches_add_up_and_weights_count():
    parts = (np.array([0, 1]), PREDICTED[:2]), (np.array([1]), PREDICTED[2:])
    assert scored(Scorer("accuracy"), *parts) == {"accuracy": pytest.approx(2 / 3)}
    weighted = Scorer(weighted_metrics=["accuracy"])
    weights = np.array([1.0, 1.0, 6.0])
    found = scored(weighted, (np.array([0, 1, 1]), PREDICTED, weights))
    assert list(found.values()) == [pytest.approx(2 / 8)]


def test_a_loss_is_the_mean_over_the_samples():
    labels = np.array([[1.0], [2.0], [4.0]], "float32")
    guesses = np.zeros((3, 1), "float32")
    scorer = Scorer(loss="mse")
    found = scored(scorer, (labels[:2], guesses[:2]), (labels[2:], guesses[2:]))
    assert found == {"loss": pytest.approx((1 + 4 + 16) / 3)}


def test_nothing_was_measured_before_the_first_batch():
    assert Scorer("accuracy").result() == {}


@pytest.mark.once
def test_accuracy_of_fractions_is_refused_where_they_are_no_shares():
    smoothed = np.array([[0.9, 0.1], [0.05, 0.95], [0, 0]], "float16")
    assert scored(Scorer("accuracy"), (smoothed, PREDICTED))
    with pytest.raises(DataError, match="sum to others. For a regression, name"):
        scored(Scorer("accuracy"), (np.float32([[0.9, 0.3]] * 3), PREDICTED))


@pytest.mark.once
def test_labels_of_other_names_say_how_outputs_are_named():
    labels = {"age": np.zeros(3), "kind": np.ones(3)}
    outputs = [PREDICTED, PREDICTED]
    named = Scorer("accuracy", output_names=["age", "kind"])
    assert len(scored(named, (labels, outputs))) == 2
    for names in (["output_0", "output_1"], ["age", "kind", "age"]):
        with pytest.raises(DataError, match="`output_names` .--output-name"):
            scored(Scorer("accuracy", output_names=names), (labels, outputs))


@pytest.mark.once
def test_a_metric_object_begins_anew():
    metric = keras.metrics.SparseCategoricalAccuracy(name="share")
    metric.update_state([0, 0], PREDICTED[:2])
    found = scored(Scorer(metric), (np.array([0, 1, 0]), PREDICTED))
    assert found == {"share": 1.0}


@pytest.mark.once
def test_a_model_is_scored_by_what_it_was_compiled_with():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    batch = np.array([0, 1, 1]), PREDICTED
    assert list(scored(Scorer.for_model(model), batch)) == ["accuracy"]
    model.compile(loss="sparse_categorical_crossentropy")
    assert list(scored(Scorer.for_model(model), batch)) == ["loss"]
    model.compile(metrics=["sparse_categorical_accuracy"])
    names = ["sparse_categorical_accuracy"]
    assert list(scored(Scorer.for_model(model), batch)) == names
    assert list(scored(Scorer.for_model(model, "accuracy"), batch)) == ["accuracy"]


@pytest.mark.once
def test_names_of_metrics_are_known_or_refused_with_the_nearest():
    for name in ("accuracy", "acc", "ce", "mse", "MeanSquaredError"):
        assert unknown_metric(name) == ""
    assert "'MeanIoU' needs arguments" in unknown_metric("MeanIoU")
    refusal = "Keras has no metric 'acuracy'. Did you mean 'accuracy'?"
    assert unknown_metric("acuracy") == refusal
    with pytest.raises(DataError, match="of your own goes in as an object"):
        Scorer(["acuracy"])


@pytest.mark.once
def test_the_loss_is_spoken_of_last():
    assert first_metric(["loss", "auc", "mse"]) == "auc"
    assert first_metric({"loss": 1.0}) == "loss"
    assert first_metric([]) is None
