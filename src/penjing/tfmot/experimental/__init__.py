"""Combinations of methods; see `penjing.tfmot.experimental.combine`."""

from penjing.tfmot.experimental import combine

__all__ = ["combine"]
