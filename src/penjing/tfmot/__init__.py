"""The names and arguments of tfmot, on penjing's engine."""

from penjing.tfmot import clustering, sparsity

__all__ = ["clustering", "sparsity"]
