"""Where tfmot has its `cluster_weights` with `preserve_sparsity`: the same here."""

from penjing.tfmot.cluster_weights import cluster_weights

__all__ = ["cluster_weights"]
