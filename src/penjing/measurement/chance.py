"""Whether a classifier knows more than chance does."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

# Fewer examples say nothing of a small advantage, but enough of none at all.
_FEW, _ENOUGH = 20, 100
_DEVIATIONS = 2.0
# Of all examples: where a class has so many, the other one may score higher where it is
# right, and yet never be the likelier one.
_COMMON = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knowledge:
    """How much of the labels a classifier finds, each class counting alike.

    Attributes:
        found: Mean over the classes of the fraction of their examples that is found;
            with one output, and with two of which the one of a common class always
            wins, how often an example of class 1 scores above one of class 0.
        chance: What guessing finds of it.
        deviation: Standard deviation of what guessing finds of so many examples.
        examples: Their number.
        is_constant: Whether the model says the same of every example.
        by_order: Whether `found` is of pairs of examples, put in order by their scores.
    """

    found: float
    chance: float
    deviation: float
    examples: int
    is_constant: bool
    by_order: bool = False

    @property
    def is_chance(self) -> bool:
        """Whether this is no better than guessing, by more than luck."""
        if self.is_constant:
            return self.examples >= _FEW
        luck = self.chance + _DEVIATIONS * self.deviation
        # Of a class with hardly any example luck can find all, and so can knowledge.
        most = min(luck, (1 + self.chance) / 2)
        return self.examples >= _ENOUGH and self.found <= most

    def is_surpassed_by(self, other: Knowledge) -> bool:
        """Whether another one finds clearly more of the same examples."""
        luck = max(2 * _DEVIATIONS * self.deviation, 0.1)
        return self.examples >= _FEW and other.found > self.found + luck


def knowledge_of(
    predictions: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> Knowledge | None:
    """Compare the outputs of a classifier with labels.

    Args:
        predictions: Array of shape `(n, classes)`, or `(n, 1)` of a binary classifier;
            probabilities or logits.
        labels: Class numbers of shape `(n,)` or `(n, 1)`, or one-hot.

    Returns:
        None where this is no classification, or there is a single class.

    Example:
        >>> knowledge = knowledge_of(np.eye(4), np.array([0, 1, 2, 0]))
        >>> round(knowledge.found, 2), round(knowledge.chance, 2)
        (0.83, 0.33)
    """
    if predictions.ndim != 2 or len(predictions) != len(labels):
        return None
    numbers = _class_numbers(labels, predictions.shape[1])
    if numbers is None or len(np.unique(numbers)) < 2:
        return None
    if predictions.shape[1] == 1:
        return _binary(predictions[:, 0].astype(np.float64), numbers)
    chosen = predictions.argmax(axis=-1)
    is_constant = len(np.unique(chosen)) == 1
    is_common = np.mean(numbers == chosen[0]) >= _COMMON
    if is_constant and is_common and predictions.shape[1] == 2:
        return _binary(np.diff(predictions.astype(np.float64))[:, 0], numbers)
    classes, sizes = np.unique(numbers, return_counts=True)
    chance = 1.0 / len(classes)
    found = [np.mean(chosen[numbers == number] == number) for number in classes]
    spread = math.sqrt(float(np.sum(chance * (1 - chance) / sizes))) / len(classes)
    return Knowledge(
        found=float(np.mean(found)),
        chance=chance,
        deviation=spread,
        examples=len(numbers),
        is_constant=is_constant,
    )


def _class_numbers(labels: npt.NDArray[Any], outputs: int) -> npt.NDArray[Any] | None:
    """The class of each example; None where labels are something else."""
    if labels.ndim == 2 and labels.shape[1] == outputs > 1:
        one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
        return labels.argmax(axis=1) if one_hot else None
    if labels.ndim not in (1, 2) or labels.size != len(labels):
        return None
    numbers = labels.reshape(-1)
    allowed = np.arange(max(outputs, 2))
    return numbers if np.isin(numbers, allowed).all() else None


def _binary(scores: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> Knowledge:
    """The area under the ROC curve, ties counting half."""
    _, order = np.unique(scores, return_inverse=True)
    counts = np.bincount(order)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[order]
    ones = numbers == 1
    n_ones, n_zeros = int(ones.sum()), int((~ones).sum())
    above = ranks[ones].sum() - n_ones * (n_ones + 1) / 2
    spread = math.sqrt((n_ones + n_zeros + 1) / (12 * n_ones * n_zeros))
    return Knowledge(
        found=float(above / (n_ones * n_zeros)),
        chance=0.5,
        deviation=spread,
        examples=len(numbers),
        is_constant=len(counts) == 1,
        by_order=True,
    )
