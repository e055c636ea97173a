"""Whether a metric rises or falls as a model gets better."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

HIGHER, LOWER, UNKNOWN = "higher", "lower", "unknown"
# Parts of names of metrics, and whole words of them.
_LOWER_PARTS = (
    *("loss", "error", "entropy", "divergence", "hinge", "poisson", "logcosh"),
    *("log_cosh", "perplexity", "distance", "deviation", "false_positive"),
    *("false_negative", "falsepositive", "falsenegative"),
    *("brier", "dissimilar", "inaccura"),
)
_LOWER_WORDS = {
    *("mse", "mae", "mape", "msle", "rmse", "ce", "kld"),
    *("wer", "cer", "fid", "nll", "eer", "ppl"),
}
_HIGHER_PARTS = (
    *("accura", "precision", "recall", "auc", "similarity", "correlation"),
    *("sensitivity", "specificity", "true_positive", "true_negative", "_io_u"),
    *("truepositive", "truenegative"),
)
_HIGHER_WORDS = {
    *("acc", "top", "f1", "f1score", "fbeta", "fbetascore", "r2", "r2score", "kappa"),
    *("iou", "miou", "meaniou", "binaryiou", "onehotiou", "onehotmeaniou", "dice"),
    *("map", "ap", "bleu", "rouge", "psnr", "ssim", "concordance"),
}


def direction_of(name: str) -> str:
    """Which values of a metric are better, by its name.

    Example:
        >>> direction_of("val_mean_absolute_error"), direction_of("kind_accuracy")
        ('lower', 'higher')
        >>> direction_of("weight_of_a_duck")
        'unknown'
    """
    low = name.lower()
    words = set(re.split(r"[\W_]+", low))
    words |= {word.rstrip("0123456789") for word in words}
    if any(part in low for part in _LOWER_PARTS) or words & _LOWER_WORDS:
        return LOWER
    if any(part in low for part in _HIGHER_PARTS) or words & _HIGHER_WORDS:
        return HIGHER
    return UNKNOWN


def directions_of(names: Iterable[str], metrics: Iterable[Any]) -> dict[str, str]:
    """Which values of measured metrics are better.

    Args:
        names: What the metrics are called where they were measured: perhaps with the
            name of an output before it.
        metrics: The metrics themselves, as `compile` takes them, or tuples of them. The
            class of an object says more than the name that a user gave it.

    Returns:
        Direction by name.
    """
    rows = (row if isinstance(row, tuple) else (row,) for row in metrics)
    own = dict(_own_direction(metric) for row in rows for metric in row)
    found = {}
    for name in names:
        known = [own[key] for key in own if name == key or name.endswith(f"_{key}")]
        sure = [direction for direction in known if direction != UNKNOWN]
        found[name] = sure[0] if sure else direction_of(name)
    return found


def _own_direction(metric: Any) -> tuple[str, str]:
    """Name of a metric, and what its class says; of a string or function its name."""
    if hasattr(metric, "name"):
        return str(metric.name), direction_of(type(metric).__name__)
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "")
    return name, direction_of(name)


def change_of(before: float, after: float, direction: str) -> str:
    """Say `"better"`, `"worse"` or `"same"`; nothing where the direction is unknown.

    Values that agree to four decimals are the same. NaN is worse than any number.

    Example:
        >>> change_of(43.2, 48.7, "lower"), change_of(0.9, 0.95, "higher")
        ('worse', 'better')
    """
    difference = after - before
    if difference != difference:
        return "worse" if before == before else "same"
    if round(difference, 4) == 0:
        return "same"
    if direction == UNKNOWN:
        return ""
    return "better" if (difference > 0) == (direction == HIGHER) else "worse"
