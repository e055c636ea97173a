"""What tfmot offers for pruning Keras models, under the same names."""

from penjing.tfmot.prune_low_magnitude import (
    prune_low_magnitude,
    prune_scope,
    strip_pruning,
)
from penjing.tfmot.pruning_callbacks import PruningSummaries, UpdatePruningStep
from penjing.tfmot.pruning_policies import PruneForLatencyOnXNNPack, PruningPolicy
from penjing.tfmot.pruning_schedules import (
    ConstantSparsity,
    PolynomialDecay,
    PruningSchedule,
)
from penjing.tfmot.pruning_wrapper import PrunableLayer

__all__ = [
    "ConstantSparsity",
    "PolynomialDecay",
    "PrunableLayer",
    "PruneForLatencyOnXNNPack",
    "PruningPolicy",
    "PruningSchedule",
    "PruningSummaries",
    "UpdatePruningStep",
    "prune_low_magnitude",
    "prune_scope",
    "strip_pruning",
]
