"""What a search learns of model and data before its first trial."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from penjing.budget.bounds.bound import standard_error
from penjing.data.batches import loader_batches
from penjing.data.data_checks import first_batch
from penjing.data.data_sources import UserData
from penjing.errors import DataError, UnsupportedModelError
from penjing.json_values import JsonValue
from penjing.measurement.accuracy import evaluate
from penjing.models.copying import copy_model
from penjing.models.selection import select_weights
from penjing.pipeline.inputs.run_data import with_validation
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.training import (
    compile_arguments,
    evaluation_arguments,
    metric_directions,
)
from penjing.pipeline.training_data import TrainingData, count_samples

# Parts of the test data whose scores tell what chance makes of a score, and how many
# samples each has at least. Of few samples there are fewer parts.
_PARTS, _FEWEST_PARTS, _FEWEST_SAMPLES = 10, 4, 10
_WARM_UP, _TIMED = 3, 8
# Small data has small batches: as many steps to learn in, and noise that helps.
_BATCH_SIZES = ((1_000, 16), (4_000, 32), (16_000, 64))
_LARGE_BATCH = 128
# Of large data a tenth is enough to decide by, of small data a fifth hardly is.
_FEW, _SHARE_OF_FEW, _SHARE = 3_000, 0.2, 0.1
# Of test data a third, but no more samples than decisions need; and from how many on.
_SHARE_OF_TEST, _MOST_OF_TEST, _LEAST_TEST = 1 / 3, 5_000, 300
_REMEMBERED = (
    "if the model was trained on what is held out, it looks better there than it is, "
    "and larger files are found than need be: give x_validation and y_validation that "
    "it has not seen"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstLook(JsonValue):
    """What was seen.

    Args:
        metrics: Scores of the model on the validation data.
        directions: Whether `"higher"` or `"lower"` values of each are better.
        errors: Standard error of each on the test data; empty where that is a loader
            or has a few samples. It is told, and says what chance makes of a score;
            no score of the test data decides anything.
        pace: Seconds that a batch takes in training.
        steps_per_epoch: Batches in an epoch.
        samples: Validation samples; 0 where they are not counted.
        test_samples: Test samples; 0 where they are not counted.
        test_metrics: Scores of the model on the test data; empty where `errors` is.
    """

    metrics: dict[str, float]
    directions: dict[str, str]
    errors: dict[str, float]
    pace: float
    steps_per_epoch: int
    samples: int
    test_samples: int
    test_metrics: dict[str, float] = dataclasses.field(default_factory=dict)


def batch_size_for(data: UserData) -> int:
    """Batches of a size that suits the number of samples; loaders bring their own."""
    if not isinstance(data.train, tuple):
        return _LARGE_BATCH
    count = count_samples(data.train)
    return next((size for most, size in _BATCH_SIZES if count <= most), _LARGE_BATCH)


def with_decision_data(
    data: UserData, part: str | None, seed: int
) -> tuple[UserData, TrainingRecipe]:
    """The data with what to decide by, and what a recipe says to have the same."""
    held_out = validation_for(data, part)
    split = with_validation(data, held_out, seed)
    if held_out.validation_split and held_out.validation_from == "train":
        why = "" if part == "train" else f"{_why_not_of_the_test_part(data)}: "
        split = dataclasses.replace(split, notes=(*split.notes, why + _REMEMBERED))
    return split, held_out


def _why_not_of_the_test_part(data: UserData) -> str:
    if not isinstance(data.test, tuple):
        return f"the test part, a {type(data.test).__name__}, cannot be split"
    return f"the test part has {_count(data.test):,} samples, too few to split"


def validation_for(data: UserData, part: str | None = None) -> TrainingRecipe:
    """What to hold out to decide by, as a recipe says it; nothing where there is some.

    It comes from the test data where that has enough samples: the model was probably
    trained on all of the training data, so it looks better there than it is. `part` is
    "train" or "test" where that was said. A DataError says that nothing can be split.
    """
    if data.validation is not None:
        return TrainingRecipe()
    tests = _count(data.test)
    if part == "test" or (part is None and tests >= _LEAST_TEST):
        share = min(_SHARE_OF_TEST, _MOST_OF_TEST / max(tests, 1))
        return TrainingRecipe(validation_split=round(share, 4), validation_from="test")
    if not isinstance(data.train, tuple):
        raise DataError(
            "A search decides by validation data, and none can be held out of a "
            f"loader, but the training part is a {type(data.train).__name__}. Give "
            "examples that it does not have as `validation` beside `train` and `test`."
        )
    few = count_samples(data.train) <= _FEW
    return TrainingRecipe(validation_split=_SHARE_OF_FEW if few else _SHARE)


def count_prunable(model: keras.Model) -> int:
    """Weights that can be pruned; 0 where there are none."""
    try:
        return sum(weight.size for weight in select_weights(model).chosen)
    except UnsupportedModelError:
        return 0


def look_at(
    model: keras.Model,
    data: UserData,
    training: TrainingRecipe,
    seed: int,
    *,
    trains: bool = True,
) -> FirstLook:
    """Score the model, and find out how noisy scores are and how fast it trains.

    Where nothing is to be trained, `trains` is False and the pace 0.
    """
    arguments = evaluation_arguments(model, training)
    metrics = _scores(model, data.validation, arguments)
    samples, others = _count(data.validation), _count(data.test)
    parts = _scores_of_parts(model, data.test, arguments)
    source = TrainingData(source=data.train, batch_size=training.batch_size, seed=seed)
    directions = metric_directions(model, training, metrics)
    return FirstLook(
        metrics=metrics,
        directions=directions,
        errors={
            name: standard_error(
                [part[name] for part in parts],
                samples=others,
                direction=directions[name],
            )
            for name in metrics
            if parts
        },
        pace=_pace(model, data, training) if trains else 0.0,
        steps_per_epoch=source.steps_per_epoch,
        samples=samples,
        test_samples=others,
        test_metrics=_scores(model, data.test, arguments) if parts else {},
    )


def _scores(model: Any, part: Any, arguments: Mapping[str, Any]) -> dict[str, float]:
    x, y = part[:2] if isinstance(part, tuple) else (part, None)
    return dict(evaluate(model, x, y, **arguments))


def _scores_of_parts(
    model: Any, part: Any, arguments: Mapping[str, Any]
) -> list[dict[str, float]]:
    """Scores of equal parts, none where those would have too few samples."""
    parts = min(_PARTS, _count(part) // _FEWEST_SAMPLES)
    if parts < _FEWEST_PARTS:
        return []
    order = np.random.default_rng(0).permutation(_count(part))
    shares = [np.sort(share) for share in np.array_split(order, parts)]
    return [
        _scores(
            model,
            keras.tree.map_structure(lambda array, share=share: array[share], part),
            arguments,
        )
        for share in shares
    ]


def _count(part: Any) -> int:
    return count_samples(part) if isinstance(part, tuple) else 0


def _pace(model: keras.Model, data: UserData, training: TrainingRecipe) -> float:
    """Seconds that training on a batch takes, on a copy."""
    copy = copy_model(model)
    copy.compile(**compile_arguments(model, training, steps=_WARM_UP + _TIMED))
    batch, loading = data.train, 0.0
    if isinstance(batch, tuple):
        size = training.batch_size
        batch = keras.tree.map_structure(lambda array: array[:size], batch)
    else:
        batch, loading = first_batch(model, batch, "train"), _loading(batch)
    for _ in range(_WARM_UP):
        copy.train_on_batch(*batch)
    begin = time.perf_counter()
    for _ in range(_TIMED):
        copy.train_on_batch(*batch)
    return loading + (time.perf_counter() - begin) / _TIMED


def _loading(loader: Any) -> float:
    """Seconds that a loader takes for a batch, once it has begun."""
    batches = loader_batches(loader, "train")
    next(batches, None)
    begin = time.perf_counter()
    count = sum(1 for _ in itertools.islice(batches, _TIMED))
    return (time.perf_counter() - begin) / max(count, 1)
