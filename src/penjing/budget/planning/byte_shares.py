"""Where a family's line begins when bytes are bounded, before its files are known."""

from __future__ import annotations

from collections.abc import Sequence

from penjing.budget.bounds.goal import Goal
from penjing.budget.planning.known_trials import Trial, plain_files
from penjing.budget.planning.space import Ground

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
    plain = [
        t.costs[goal.bytes_kind]
        for t in plain_files(trials)
        if t.candidate.mode != "float32"
    ]
    if most is None or not plain:
        return ground.most_kept(family)
    weights = min(ground.weights, *plain)  # some may take no byte
    rest = min(plain) - weights

    def bytes_at(share: float) -> float:
        channels = ground.channel_share(share) if family.startswith("cut") else 1.0
        if "prune" not in family:
            each = share
        elif goal.bytes_kind == "gzip":
            each = _GZIPPED_BYTES * share
        else:
            each = (_MASK_BITS * channels + _INDEX_BITS * share) / 8
        return rest * channels + weights * each

    share = ground.most_kept(family)
    while share > ground.least_kept and bytes_at(share) > most:
        share *= _STEP
    return max(share, ground.least_kept)
