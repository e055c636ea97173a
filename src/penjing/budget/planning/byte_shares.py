"""Where a family's line begins when bytes are bounded, before its files are known."""

from __future__ import annotations

from collections.abc import Sequence

from penjing.budget.bounds.goal import Goal
from penjing.budget.planning.known_trials import Trial
from penjing.budget.planning.space import FILES, Ground

_STEP = 0.95  # factor between the shares that are looked at
# Of a weight: one that stays in a compressed file, its place with it; the bit that says
# whether it stays in a packed one, and its index of 15 levels.
_GZIPPED_BYTES, _MASK_BITS, _INDEX_BITS = 1.2, 1.0, 4.0


def share_within_bytes(
    trials: Sequence[Trial], family: str, ground: Ground, goal: Goal
) -> float:
    """The share at which a file has about as many bytes as are allowed.

    An estimate from the file of the model as it is: what is no weight stays, or falls
    as the channels do. Where bytes are not bounded, or nothing is known, it is the most
    that is ever kept.
    """
    most = goal.bounds.get("max_bytes")
    files = [t for t in trials if t.candidate.family == FILES and t.is_finished]
    plain = [t.costs[goal.bytes_kind] for t in files if t.candidate.mode != "float32"]
    if most is None or not plain:
        return ground.most_kept(family)
    weights = min(ground.weights, *plain)  # some may take no byte
    rest = min(plain) - weights
    share = ground.most_kept(family)
    while share > ground.least_kept:
        if _bytes_at(share, family, ground, goal, weights, rest) <= most:
            break
        share *= _STEP
    return max(share, ground.least_kept)


def _bytes_at(
    share: float,
    family: str,
    ground: Ground,
    goal: Goal,
    weights: float,
    rest: float,
) -> float:
    channels = ground.channel_share(share) if family.startswith("cut") else 1.0
    if "prune" not in family:
        bits = 8.0 * share
    elif goal.bytes_kind == "gzip":
        bits = 8.0 * _GZIPPED_BYTES * share
    else:
        bits = channels * (_MASK_BITS + _INDEX_BITS * share / channels)
    return rest * channels + weights * bits / 8
