"""The model that `quantize_model` and `quantize_apply` give."""

from __future__ import annotations

from typing import Any, NoReturn

import keras
from keras.src.backend.common.global_state import get_global_attribute

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
        # Into an .h5 file and out of it Keras takes the weights of these layers alone.
        whole = self._shows_state or get_global_attribute("use_legacy_config")
        state = super().layers if whole else ()
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

    def _get_save_spec(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse `tf.lite.TFLiteConverter`, which alone asks for it."""
        raise UnsupportedModelError(
            f"tf.lite.TFLiteConverter does not know the scales and ranges of the model "
            f"{self.name!r}, which is being quantized. Write the file with "
            "penjing.export_litert(model, path, 'int8')."
        )
