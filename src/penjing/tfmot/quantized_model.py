"""The model that `quantize_model` and `quantize_apply` give."""

from __future__ import annotations

import os
from typing import Any

import keras

from penjing.errors import UnsupportedModelError
from penjing.models.compression_model import CompressionModel
from penjing.tfmot.preserving_transforms import KeepClusters


@keras.saving.register_keras_serializable("penjing.tfmot")
class QuantizedModel(CompressionModel):
    """A `CompressionModel` that shows the layers inside it as its own.

    Args:
        model: See `CompressionModel`.
        transforms: See `CompressionModel`.
        activations: See `CompressionModel`.
        **kwargs: Passed to `keras.Model`.
    """

    _shows_state = False

    @property
    def layers(self) -> list[Any]:
        """The layers of the inner model."""
        state = super().layers if self._shows_state else ()
        return [*self.model.layers, *(s for s in state if s is not self.model)]

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Print the layers, and what quantization added."""
        self._shows_state = True
        try:
            super().summary(*args, **kwargs)
        finally:
            self._shows_state = False

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train as any Keras model; shared values are in the weights afterwards."""
        history = super().fit(*args, **kwargs)
        for transform in self.transforms:
            if isinstance(transform, KeepClusters):
                selected = transform.weights_by_path
                raw = {path: w.variable.value for path, w in selected.items()}
                for path, value in transform.apply(raw, training=False).items():
                    selected[path].variable.assign(value)
        return history

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Save as a `.keras` file.

        Raises:
            UnsupportedModelError: If the file is of another format.
        """
        if os.fspath(filepath).endswith((".h5", ".hdf5")):
            raise UnsupportedModelError(
                f"{os.fspath(filepath)!r} cannot hold a model that is being quantized: "
                "Keras writes the weights of layers alone to HDF5, without scales and "
                "ranges. Save it as .keras; what penjing.strip gives fits into .h5."
            )
        super().save(filepath, *args, **kwargs)
