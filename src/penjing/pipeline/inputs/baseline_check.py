"""A baseline that knows nothing makes every result after it meaningless."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from penjing.data.batches import to_batches
from penjing.data.data_sources import UserData
from penjing.data.data_spec import PIXELS
from penjing.errors import CompressionError
from penjing.measurement.chance import Knowledge, knowledge_of

_Examples = list[tuple[Any, Any]]
_EXAMPLES, _BATCH_SIZE = 512, 32
_GO_ON = "To go on all the same, give accept_baseline=True (--accept-baseline)."


def check_baseline(data: UserData, model: keras.Model) -> None:
    """Refuse a classifier that is at chance level on the test part.

    One that reads images from 0 to 255, but knows more of them from 0 to 1, is refused
    as well, and the reverse. Models of several inputs or outputs pass, as do those that
    are no classifiers.
    """
    examples = _examples(model, data.test)
    known = _knowledge(model, examples) if examples else None
    if known is None:
        return
    advice = _pixel_advice(known, data.pixel_maximum, model, examples)
    if known.is_chance:
        raise CompressionError(
            f"{_finding(model, known)} That is chance level, and a report would "
            f"compare with nothing. {advice or _CAUSES} {_GO_ON}"
        )
    if advice:
        raise CompressionError(f"{_finding(model, known)} {advice} {_GO_ON}")


_CAUSES = (
    "Usual causes: the model is not trained, the inputs are scaled in another way than "
    "in its training (images: see --pixels), or the classes are numbered in another "
    "order."
)


def _finding(model: keras.Model, known: Knowledge) -> str:
    if known.is_constant:
        says = f"gives the same answer for all {known.examples} test examples tried"
    else:
        what = (
            "puts {:.1%} of the pairs of both classes in order in"
            if known.by_order
            else "finds {:.1%} of each class of"
        ).format(known.found)
        says = (
            f"{what} {known.examples} test examples, where guessing gives "
            f"{known.chance:.1%}"
        )
    return f"The model {model.name!r} {says}, before anything is compressed."


def _pixel_advice(
    known: Knowledge, white: float | None, model: keras.Model, examples: _Examples
) -> str:
    """What to give instead, where the other range of pixels suits the model better."""
    if white not in PIXELS.values():
        return ""
    now, other = sorted(PIXELS, key=lambda name: PIXELS[name] != white)
    factor = np.float32(PIXELS[other] / PIXELS[now])
    better = _knowledge(model, [(x * factor, y) for x, y in examples])
    if better is None or not known.is_surpassed_by(better):
        return ""
    return (
        f"With pixels from {other.replace('-', ' to ')} it finds {better.found:.1%}: "
        f'give pixels="{other}" (--pixels {other}).'
    )


def _knowledge(model: keras.Model, examples: _Examples) -> Knowledge | None:
    outputs = [model.predict_on_batch(x) for x, _ in examples]
    if not all(isinstance(output, np.ndarray) for output in outputs):
        return None
    labels = np.concatenate([y for _, y in examples])
    return knowledge_of(np.concatenate(outputs), labels)


def _examples(model: keras.Model, part: Any) -> _Examples:
    """Batches of some examples; none where they are not a single array each."""
    if isinstance(part, tuple):
        x, y = part[:2]
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
            return []
        step = max(len(x) // _EXAMPLES, 1)
        fixed = [tensor.shape[0] for tensor in getattr(model, "inputs", None) or []]
        size = max([n for n in fixed if n is not None], default=_BATCH_SIZE)
        stop = min(-(-len(x) // step), _EXAMPLES) * step
        starts = range(0, stop, size * step)
        cuts = [slice(a, min(a + size * step, stop), step) for a in starts]
        return [
            (x[cut], y[cut]) for cut in cuts if len(x[cut]) == size or not any(fixed)
        ]
    found: _Examples = []
    for x, y, _ in to_batches(part).stream:
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
            return []
        found.append((x, y))
        if sum(len(labels) for _, labels in found) >= _EXAMPLES:
            break
    return found
