"""Which values of a metric are better, and what a change is."""

import math

import keras
import pytest

from penjing.measurement.metric_direction import (
    change_of,
    direction_of,
    directions_of,
)

pytestmark = pytest.mark.once
LOWER = """
mse mae mape loss rmse out_mae val_mean_absolute_error sparse_categorical_crossentropy
kl_divergence hinge squared_hinge poisson logcosh perplexity wer fid word_error_rate
MeanSquaredError false_positives FalseNegatives RootMeanSquaredError log_cosh_error
brier_score dissimilarity inaccuracy
"""
HIGHER = """
accuracy acc binary_accuracy kind_accuracy auc precision recall f1_score top_k_accuracy
top5 mean_io_u iou r2_score cosine_similarity sensitivity_at_specificity MeanIoU
true_positives F1Score R2Score pearson_correlation concordance_correlation mAP psnr
fbeta_score dice_score
"""


@pytest.mark.parametrize("name", LOWER.split())
def test_errors_and_losses_fall(name):
    assert direction_of(name) == "lower"


@pytest.mark.parametrize("name", HIGHER.split())
def test_what_counts_hits_rises(name):
    assert direction_of(name) == "higher"


@pytest.mark.parametrize("name", ["mean", "duck", "sum", "output_1", "energy_score"])
def test_other_names_say_nothing(name):
    assert direction_of(name) == "unknown"


def test_every_metric_of_keras_has_a_direction():
    classes = (getattr(keras.metrics, name) for name in dir(keras.metrics))
    metric = keras.metrics.Metric
    own = [c for c in classes if isinstance(c, type) and issubclass(c, metric)]
    unknown = [c.__name__ for c in own if direction_of(c.__name__) == "unknown"]
    assert sorted(unknown) == ["Mean", "MeanMetricWrapper", "Metric", "Sum"]


def test_a_class_says_more_than_a_name_of_the_users():
    metrics = [keras.metrics.MeanAbsoluteError(name="gauge"), "accuracy", None]
    found = directions_of(["gauge", "box_gauge", "accuracy", "duck"], metrics)
    assert found == {
        "gauge": "lower",
        "box_gauge": "lower",
        "accuracy": "higher",
        "duck": "unknown",
    }


def test_the_name_of_an_output_says_nothing():
    def far_off(y, p):
        return p

    names = ["error_accuracy", "loss_type_auc", "accuracy_far_off", "val_acc_mae"]
    found = directions_of(names, ["accuracy", "auc", far_off, "mae"])
    assert list(found.values()) == ["higher", "higher", "higher", "lower"]
    assert found == directions_of(names, [("accuracy", "auc"), (far_off, "mae")])


@pytest.mark.parametrize(
    ("before", "after", "direction", "change"),
    [
        (43.2, 48.7, "lower", "worse"),
        (43.2, 40.1, "lower", "better"),
        (0.9, 0.89, "higher", "worse"),
        (0.9, 0.91, "higher", "better"),
        (0.9, 0.91, "unknown", ""),
        (0.9, 0.90001, "higher", "same"),
        (0.9, math.nan, "higher", "worse"),
        (math.nan, math.nan, "lower", "same"),
    ],
)
def test_a_change_has_a_side(before, after, direction, change):
    assert change_of(before, after, direction) == change
