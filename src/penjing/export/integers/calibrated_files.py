"""Integer files whose ranges are those of samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from penjing.arguments import quoted
from penjing.export.conversion_config import CONVERTED, ConversionConfig
from penjing.export.integers.compared_tensors import ComparedTensor, compared_tensors
from penjing.export.integers.float_layers import (
    end_names,
    float_operators,
    kept_integers,
    layer_of,
)
from penjing.export.moved_values import keep_moved_values
from penjing.export.observed_ranges import observe_ranges
from penjing.export.samples import spread_evenly
from penjing.export.weights.calibrated_weights import keep_calibrated_weights
from penjing.export.weights.fixed_weights import fixed_weights, weights_of
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.layer_names import LayerScopes
from penjing.tflite.operators import calls
from penjing.tflite.records import Record
from penjing.tflite.tensors import data_of, tensor_name

_COMPARED = 16  # samples that tensors are compared on


class CalibratedFiles:
    """Integer files of a model, with none or some of its layers in float.

    `make_floats` gives the float32 file where its weights are needed, and `in_order`
    puts inputs and outputs in the model's order. `scopes` say what is of which layer.
    """

    def __init__(
        self,
        model: keras.Model,
        converter: Any,
        make_floats: Callable[[], Record],
        in_order: Callable[[bytes], bytes],
        config: ConversionConfig,
        samples: Sequence[np.ndarray] | None,
        scopes: LayerScopes,
    ) -> None:
        self._fixed = fixed_weights(weights_of(model))
        self._converter = converter
        self._make_floats = make_floats
        self._in_order = in_order
        self._config = config
        self._samples = samples
        self._scopes = scopes

    def make(self, floats: Sequence[str], *, exact: bool = False) -> EditedFile:
        """The file with some layers in float; see `float_operators`."""
        bits = self._config.mode.weight_bits
        rewritten = bits == 4 or any(w.keeps_integers for w in self._fixed)
        observed = self._config.observer != "min_max"
        searched = self._config.float_error is not None or self._config.each_alone
        by_steps = observed or rewritten or floats or searched
        denied: list[str] = []
        source: Record | None
        if self._config.mode.has_int8_activations and by_steps:
            if floats:
                model = self.calibrated.model
                denied = float_operators(model, self._scopes, floats, exact=exact)
            content = _quantized(self.calibrated.content, self._config, denied)
            source = self.calibrated.model
        else:
            content = self._converter.convert()
            source = self._make_floats() if rewritten else None
        file = EditedFile(self._in_order(content), CONVERTED)
        if rewritten:
            keep = functools.partial(
                keep_calibrated_weights,
                floats=source,
                bits=bits,
                fixed=self._fixed,
                dense_one_scale=self._config.is_micro,
            )
            file.edit(keep)
        file.edit(keep_moved_values)
        # The converter writes files of many scales a third larger than they need be.
        file.edit(functools.partial(share_buffers, keep_order=True))
        file.scopes, file.float_layers = self._scopes, tuple(floats)
        _tell_kept(file, denied)
        return file

    @functools.cached_property
    def calibrated(self) -> EditedFile:
        """The float model with ranges, which is made once."""
        self._converter._experimental_calibrate_only = True
        content = self._in_order(self._converter.convert())
        floats = EditedFile(content, "the calibrated file")
        if self._config.observer != "min_max":
            observe_ranges(floats, self._samples or (), self._config.observer)
        return floats

    def alone(self) -> Iterator[tuple[str, EditedFile]]:
        """Each layer, and the file in which it alone computes in integers."""
        graph = self.calibrated.model["subgraphs"][0]
        ends = end_names(graph, self._scopes)
        layers: dict[str, None] = {}
        for call in calls(self.calibrated.model, graph):
            if call.outputs:
                name = tensor_name(graph["tensors"][call.output])
                layers[layer_of(ends.get(call.output, name), self._scopes)] = None
        for layer in layers:
            others = [name for name in layers if name != layer]
            yield layer, self.make(others, exact=True)

    def costs(self) -> dict[str, int]:
        """Path of a layer -> bytes that its weights take more in float."""
        model = self.calibrated.model
        found: dict[str, int] = {}
        for graph in model["subgraphs"]:
            for call in calls(model, graph):
                tensors = (graph["tensors"][n] for n in call.inputs if n >= 0)
                size = sum(len(data_of(model, tensor)) for tensor in tensors)
                if call.outputs:
                    name = tensor_name(graph["tensors"][call.output])
                    layer = layer_of(name, self._scopes)
                    found[layer] = found.get(layer, 0) + size * 3 // 4
        return found

    def compared(self, file: EditedFile) -> list[ComparedTensor]:
        """The tensors of a file beside those of the float model."""
        samples = spread_evenly(list(self._samples or ()), _COMPARED)
        floats = self.calibrated.content
        return compared_tensors(file.content, floats, samples, self._scopes)[0]


def _tell_kept(file: EditedFile, denied: Sequence[str]) -> None:
    kept = kept_integers(file.model, denied)
    if kept:
        file.notes.append(
            "The converter made integers of what `float_layers` names: "
            f"{quoted(kept, limit=6)}"
        )


def _quantized(
    calibrated: bytes, config: ConversionConfig, denied: Sequence[str]
) -> bytes:
    """What the converter makes of a float model with ranges."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    return bytes(
        mlir_quantize(
            calibrated,
            input_data_type=getattr(tf, config.input_type),
            output_data_type=getattr(tf, config.output_type),
            denylisted_nodes=list(denied) or None,
        )
    )
