"""Weight clustering; see `penjing.tfmot.clustering.keras`."""

from penjing.tfmot.clustering import keras

__all__ = ["keras"]
