"""Where a family's line begins that bytes are bounded on, before any file is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penjing.budget.bounds.goal import Goal
from penjing.budget.planning.known_trials import Trial
from penjing.budget.planning.space import FILES, MOST_KEPT, Ground

_FINER = 0.95  # factor between the shares that are looked at
# Of a weight: one that stays in a compressed file, its place with it; the bit that says
# whether it stays in a packed one, and its index of 15 levels.
_GZIPPED_BYTES, _MASK_BITS, _INDEX_BITS = 1.2, 1.0, 4.0


def share_within_bytes(
    trials: Sequence[Trial], family: str, ground: Ground, goal: Goal
) -> float:
    """The share at which a file has about as many bytes as are allowed.

    An estimate from the file of the model as it is: all but its weights stays. Where
    bytes are not bounded, or nothing is known, it is the most that is ever kept.
    """
    most = goal.bounds.get("max_bytes")
    files = [t for t in trials if t.candidate.family == FILES and t.is_finished]
    plain = [t.costs[goal.bytes_kind] for t in files if t.candidate.mode != "float32"]
    if most is None or not plain:
        return MOST_KEPT
    weights = min(ground.weights, *plain)  # some may take no byte
    rest, each = min(plain) - weights, _bytes_of_weight(family, ground, goal)
    share = MOST_KEPT
    while share > ground.least_kept and rest + weights * each(share) > most:
        share *= _FINER
    return max(share, ground.least_kept)


def _bytes_of_weight(
    family: str, ground: Ground, goal: Goal
) -> Callable[[float], float]:
    """Of all weights that there were, by the share of them that stays."""
    if "prune" not in family:
        return lambda keep: keep
    if goal.bytes_kind == "gzip":
        return lambda keep: _GZIPPED_BYTES * keep
    if family == "prune" or not ground.packs:
        return lambda keep: (_MASK_BITS + _INDEX_BITS * keep) / 8
    # Half of the way by channels, as `Ground` has it.
    return lambda keep: keep**0.5 * (_MASK_BITS + _INDEX_BITS * keep**0.5) / 8
