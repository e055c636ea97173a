"""Which cases JAX runs: it compiles for seconds each model that it sees first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few_on_jax(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """All `cases` for `parametrize`; JAX runs those `kept` alone.

    For cases that show one behaviour on more models. TensorFlow and PyTorch, where
    each takes a moment, run them all. Keep on JAX one case of what differs there: the
    state of a training step, random numbers, loops, other compiled programs.
    """
    cases = list(cases)
    assert all(case in cases for case in kept), kept
    return [case if case in kept else _costly(case) for case in cases]


def _costly(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.costly_on_jax)
