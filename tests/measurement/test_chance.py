"""What a classifier knows, against values by hand."""

import numpy as np
import pytest

from penjing.measurement.chance import knowledge_of

pytestmark = pytest.mark.once
GENERATOR = np.random.default_rng(0)


RARE = np.stack([np.ones(300), np.linspace(0, 0.5, 300)], axis=1)


def guesses(count, classes):
    return GENERATOR.normal(size=(count, classes))


def test_each_class_counts_alike():
    labels = np.array([0] * 8 + [1] * 2)
    outputs = np.eye(2)[[0] * 8 + [0, 1]]
    knowledge = knowledge_of(outputs, labels)
    assert knowledge.found == pytest.approx((1 + 0.5) / 2)
    assert knowledge.chance == 0.5 and knowledge.examples == 10
    # Two classes of 8 and 2 examples, each found with probability 1/2.
    assert knowledge.deviation == pytest.approx(np.sqrt(0.25 / 8 + 0.25 / 2) / 2)


def test_a_binary_classifier_is_judged_by_order_alone():
    scores = np.array([[-3.0], [2.0], [2.0], [5.0]])
    knowledge = knowledge_of(scores, np.array([[0], [0], [1], [1]]))
    assert knowledge.found == pytest.approx((1 + 1 + 0.5 + 1) / 4)


@pytest.mark.parametrize(
    ("outputs", "labels", "is_chance"),
    [
        (guesses(500, 10), np.arange(500) % 10, True),
        (np.sin(np.arange(500.0))[:, None], np.arange(500) % 2, True),
        (guesses(500, 10), np.eye(10)[np.arange(500) % 10], True),
        (np.eye(10)[[3] * 40], np.arange(40) % 10, True),  # always the same
        (np.ones((40, 1)), np.arange(40) % 2, True),
        (-np.eye(4)[np.arange(200) % 4], np.arange(200) % 4, True),  # all wrong
        (np.eye(10)[[3] * 400], np.where(np.arange(400) < 360, 3, 1), True),
        (guesses(500, 10) + 1.5 * np.eye(10)[np.arange(500) % 10],)
        + (np.arange(500) % 10, False),
        (guesses(60, 10), np.arange(60) % 10, False),  # too few to tell
        (np.eye(10)[[3] * 10], np.arange(10), False),
        (np.eye(2)[[0] * 300 + [1]], np.array([0] * 300 + [1]), False),  # all found
        (np.arange(301.0)[:, None], np.array([0] * 300 + [1]), False),
        (RARE, np.arange(300) >= 290, False),  # scored higher, though never chosen
        (RARE, np.arange(300) % 10 == 9, True),
        (RARE, np.arange(300) >= 150, True),  # one answer for two common classes
    ],
)
def test_chance_is_told_from_knowledge(outputs, labels, is_chance):
    assert knowledge_of(outputs, labels).is_chance is is_chance


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (guesses(50, 3), GENERATOR.normal(size=(50, 3))),  # a regression
        (guesses(50, 1), GENERATOR.normal(size=50)),
        (guesses(50, 3), np.ones((50, 3))),  # several classes each
        (guesses(50, 3), np.zeros(50, int)),  # one class
        (guesses(50, 3).reshape(10, 5, 3), np.zeros((10, 5), int)),
        (guesses(50, 3), np.arange(50)),
    ],
)
def test_what_is_no_classification_is_not_judged(outputs, labels):
    assert knowledge_of(outputs, labels) is None
