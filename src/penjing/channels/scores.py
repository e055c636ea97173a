"""What each unit of each group of channels is worth, in one ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from penjing.arguments import did_you_mean, nearest_name, quoted
from penjing.channels.activation_moments import activation_variances
from penjing.channels.groups import ChannelGroup, kernels_of, unit_slices
from penjing.data.batches import leaves, to_arrays, to_batches
from penjing.errors import DataError, UnsupportedModelError
from penjing.models.loss_gradients import loss_gradients
from penjing.numerics import channel_importance as numerics
from penjing.numerics.channel_importance import Scores

Weights: TypeAlias = Mapping[str, npt.NDArray[Any]]
ChannelImportance: TypeAlias = (
    str | Callable[[ChannelGroup, Weights], npt.ArrayLike] | Mapping[str, npt.ArrayLike]
)

MAX_SAMPLES = 1024
BATCH = 32
_NEEDS_DATA = ("taylor", "activation_variance")
IMPORTANCES = ("l2", "batch_norm", "taylor", "lamp", "activation_variance", "random")


def check_importance(importance: Any) -> None:
    """Refuse what is neither a known name, nor a function, nor a mapping."""
    if callable(importance) or isinstance(importance, Mapping):
        return
    if importance not in IMPORTANCES:
        raise ValueError(
            f"`importance` must be one of {quoted(IMPORTANCES)}, a function of (group, "
            "weights), or a mapping from group names to scores, got "
            f"{importance!r}.{did_you_mean(importance, IMPORTANCES)}"
        )


def score_channels(
    model: keras.Model,
    groups: Sequence[ChannelGroup],
    importance: ChannelImportance = "l2",
    data: Any = None,
) -> dict[str, Scores]:
    """Score the units of groups so that one ranking of all makes sense.

    Norms, scales and variances are taken relative to the mean of their group; LAMP and
    Taylor scores, which are fractions and changes of one loss, and the user's own are
    taken as they are. Group name -> scores of shape `(size,)`, at least 0.
    """
    check_importance(importance)
    weights = {
        variable.path: ops.convert_to_numpy(ops.cast(variable.value, "float32"))
        for variable in model.weights
    }
    if importance in _NEEDS_DATA and data is None:
        raise DataError(
            f'`importance="{importance}"` looks at data: pass `data=(x, y)` or a '
            "loader of the training data, of which 1,024 samples are used."
        )
    if importance == "taylor":
        return _taylor(model, groups, weights, data)
    if importance == "activation_variance":
        return _variance(model, groups, data)
    return {
        group.name: _score(group, number, importance, weights)
        for number, group in enumerate(groups)
    }


def _score(
    group: ChannelGroup, number: int, importance: ChannelImportance, weights: Weights
) -> Scores:
    if callable(importance):
        own = {member.path: weights[member.path] for member in group.members}
        return _checked(group, importance(group, own))
    if isinstance(importance, Mapping):
        return _checked(group, _named(importance, group))
    if importance == "random":
        return numerics.random_scores(group.size, [number])
    if importance == "batch_norm":
        scales = unit_slices(kernels_of(group, ("scale",)), weights)
        if not scales:
            raise UnsupportedModelError(
                f"The channels of {group.name!r} pass through no normalization with a "
                'scale, which importance="batch_norm" looks at. Choose another '
                f"importance, or leave them whole: exclude={group.name!r}."
            )
        return numerics.relative_to_mean(numerics.scale_magnitudes(scales, group.size))
    norms = numerics.l2_norms(unit_slices(kernels_of(group), weights), group.size)
    if importance == "lamp":
        return numerics.lamp_scores(np.square(norms))
    return numerics.relative_to_mean(norms)


def _named(importance: Mapping[str, Any], group: ChannelGroup) -> Any:
    if group.name not in importance:
        near = nearest_name(group.name, importance)
        raise ValueError(
            f"`importance` has no scores for {group.name!r}. Give some, or leave it "
            f"whole: exclude={group.name!r}."
            + (f" It has some for {near!r}." if near else "")
        )
    return importance[group.name]


def _checked(group: ChannelGroup, scores: Any) -> Scores:
    try:
        array = np.asarray(scores, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`importance` must give numbers for {group.name!r}, got {scores!r}: "
            f"{error}."
        ) from error
    if array.shape != (group.size,):
        raise ValueError(
            f"`importance` must give one score for each of the {group.size} units of "
            f"{group.name!r}, an array of shape ({group.size},), got shape "
            f"{array.shape}."
        )
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"`importance` must give finite scores of at least 0, got {array.min()} to "
            f"{array.max()} for {group.name!r}."
        )
    return array


def _taylor(
    model: keras.Model, groups: Sequence[ChannelGroup], weights: Weights, data: Any
) -> dict[str, Scores]:
    """Changes of the loss when what readers of a unit get from it becomes zero.

    The sum of gradient times weight over the kernels that read a unit is, to first
    order, exactly that. Where nothing reads a unit, its own weights stand in.
    """
    members = {
        group.name: [m for m in group.members if m.role == "input"]
        or [m for m in group.members if m.role != "statistic"]
        for group in groups
    }
    paths = sorted({member.path for own in members.values() for member in own})
    changes: dict[str, list[Any]] = {group.name: [] for group in groups}
    for gradients in loss_gradients(model, _samples(data), paths):
        products = {path: gradients[path] * weights[path] for path in paths}
        for group in groups:
            parts = unit_slices(members[group.name], products)
            total = np.sum([part.totals(group.size) for part in parts], axis=0)
            changes[group.name].append(total)
    return {name: numerics.taylor_scores(rows) for name, rows in changes.items()}


def _variance(
    model: keras.Model, groups: Sequence[ChannelGroup], data: Any
) -> dict[str, Scores]:
    inputs = (x for x, _, _ in _samples(data, labels=False))
    found: dict[str, Scores] = {}
    for name, variance in activation_variances(model, groups, inputs).items():
        if variance is None:
            raise UnsupportedModelError(
                "No dense layer or convolution reads or makes the channels of "
                f'{name!r}, so importance="activation_variance" does not see them. '
                "Choose another importance, or leave them whole: "
                f"exclude={name!r}."
            )
        found[name] = numerics.relative_to_mean(np.sqrt(variance))
    return found


def _samples(data: Any, *, labels: bool = True) -> Iterator[tuple[Any, Any, Any]]:
    """Up to `MAX_SAMPLES` samples in batches, spread evenly over arrays."""
    x, y = _spread(data, labels=labels)
    seen = 0
    for batch in to_batches(x, y, BATCH).stream:
        yield batch
        seen += len(leaves(batch[0])[0])
        if seen >= MAX_SAMPLES:
            return


def _spread(data: Any, *, labels: bool) -> tuple[Any, Any]:
    if hasattr(data, "shape") and not labels:
        data = (data, np.zeros(len(data)))
    if not isinstance(data, (tuple, list)):
        return data, None
    if len(data) != 2:
        raise DataError(
            f"`data` must be (x, y) or a loader, got {len(data)} parts. Sample weights "
            "need a loader that gives (x, y, sample_weight)."
        )
    x, y = to_arrays(data[0], "x"), to_arrays(data[1], "y")
    to_batches(x, y, BATCH)  # refuses what is empty or of different lengths
    count = len(leaves(x)[0])
    chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_SAMPLES)).astype(int))
    return tuple(keras.tree.map_structure(lambda a: a[chosen], part) for part in (x, y))
