"""What TensorFlow keeps of each compiled training step, for as long as it lives.

Keras' optimizers sum gradients over devices by a function that has a gradient of its
own. TensorFlow registers that gradient for good, and it holds the graph of the step: 25
MB for each small model that is trained, whether the model is still there or not. Nobody
differentiates a finished step's sum again.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

_OF_A_SUM = "tensorflow.python.distribute."
_DEEP = 3


@contextlib.contextmanager
def steps_forgotten() -> Iterator[None]:
    """Let go of the training steps that the block compiled, once it is over.

    Models that the block leaves can go on being trained and run; on other backends than
    TensorFlow nothing is kept.
    """
    before = set(_gradients())
    try:
        yield
    finally:
        gradients = _gradients()
        for name in [name for name in gradients if name not in before]:
            if _is_of_a_sum(gradients[name].get("type"), _DEEP):
                del gradients[name]
        gc.collect()  # models are full of circles


def _gradients() -> dict[str, dict[str, Any]]:
    """TensorFlow's table of gradients by name; empty where it is not in use."""
    ops = sys.modules.get("tensorflow.python.framework.ops")
    registry = getattr(ops, "gradient_registry", None)
    found = getattr(registry, "_registry", None)
    return found if isinstance(found, dict) else {}


def _is_of_a_sum(function: Any, depth: int) -> bool:
    """Whether a function, or one that it holds, is the gradient of such a sum."""
    if not isinstance(function, FunctionType) or not depth:
        return False
    if function.__module__.startswith(_OF_A_SUM):
        return True
    held = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a cell without a value
            held.append(cell.cell_contents)
    return any(_is_of_a_sum(item, depth - 1) for item in held)
