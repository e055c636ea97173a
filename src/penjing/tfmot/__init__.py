"""The names and arguments of tfmot, on penjing's engine.

A script for Keras 2 runs once its imports are changed. Layers are wrapped, as its users
expect to see them, but masks and steps are the engine's. Where tfmot is silently wrong
penjing is not; docs/migrating-from-tfmot.md lists the differences.
"""

from penjing.tfmot import clustering, experimental, quantization, sparsity

__all__ = ["clustering", "experimental", "quantization", "sparsity"]
