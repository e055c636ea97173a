"""How the state of a transform gets new values inside a training step, where it is due.

What is rare stands behind a condition, which each backend has its own price for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from penjing.numerics import Tensor


def readable_step(step: Any) -> int | Tensor:
    """The step as a Python number where reading it costs nothing, else as a tensor.

    PyTorch runs every operation of a schedule by itself, which takes longer than the
    masked forward pass of a small model: its steps outside compiled functions are read.
    """
    if keras.backend.backend() == "torch":
        import torch

        if step.device.type == "cpu" and not torch.compiler.is_compiling():
            return int(step)
    return ops.convert_to_tensor(step)


def renew(
    variables: Sequence[Any],
    due: bool | Tensor,
    compute: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    otherwise: Callable[[Sequence[Tensor]], Sequence[Tensor]] = lambda old: old,
) -> None:
    """Give the state variables of a transform their next values.

    They are what `compute` makes of the old ones where `due`, a boolean tensor of shape
    `()` or its value, holds; else what `otherwise` does, which is cheap.
    """
    old = [ops.convert_to_tensor(variable.value) for variable in variables]
    fresh = choose(due, lambda: compute(old), lambda: otherwise(old))
    for variable, before, new in zip(variables, old, fresh, strict=True):
        if new is not before:
            variable.assign(new)


def choose(
    condition: bool | Tensor,
    when_true: Callable[[], Sequence[Tensor]],
    when_false: Callable[[], Sequence[Tensor]],
) -> Sequence[Tensor]:
    """`keras.ops.cond`, which does not make JAX or PyTorch compile what is rare.

    JAX would compile it at every call outside a compiled step, and `torch.compile`
    would break the search for a mask into dozens of graphs. `condition` is a boolean
    tensor of shape `()`, or its value. `when_false` is cheap: it may be called anyhow.
    """
    known = condition if isinstance(condition, bool) else None
    if known is None and keras.backend.backend() == "torch":
        import torch

        if torch.compiler.is_compiling():
            choose_eagerly = torch.compiler.disable(ops.cond)
            return choose_eagerly(condition, when_true, when_false)  # type: ignore[no-any-return]
    if known is None and keras.backend.backend() == "jax":
        # `TypeError` is what JAX raises for the bool of a value that it traces.
        with contextlib.suppress(TypeError):
            known = bool(condition)
        if known is None:
            return _choose_traced(condition, when_true, when_false)
    if known is None:
        return ops.cond(condition, when_true, when_false)  # type: ignore[no-any-return]
    return when_true() if known else when_false()


def _choose_traced(
    condition: Tensor,
    when_true: Callable[[], Sequence[Tensor]],
    when_false: Callable[[], Sequence[Tensor]],
) -> Sequence[Tensor]:
    """A selection behind a loop that runs once or not at all.

    XLA copies what a branch or a loop passes through, so the values that stay pass by;
    and on CPUs it runs convolutions beside a branch more slowly than beside a loop.
    """
    kept = list(when_false())

    def compute(_: Tensor, *old: Tensor) -> tuple[Tensor, ...]:
        fresh = zip(when_true(), old, strict=True)
        return ops.zeros_like(condition), *(ops.cast(new, v.dtype) for new, v in fresh)

    start = [ops.convert_to_tensor(condition), *map(ops.zeros_like, kept)]
    fresh = ops.while_loop(lambda due, *_: due, compute, start)[1:]
    return [
        ops.where(condition, new, old) for new, old in zip(fresh, kept, strict=True)
    ]
