"""What the converter reads: a model traced once, and which layer each part is of.

Names of operations in a graph begin with the scope of the layer that made them. Which
layer that is cannot be read off the scope: TensorFlow numbers scopes that come again,
so "dense_1" is the layer of this name or the second call of another. So each layer
tells its scope while it is traced.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from penjing.export.ends.end_grids import EndGrids
from penjing.export.precision import float32_compute
from penjing.export.recurrence import convertible_loops
from penjing.export.tracing.preprocessing import convertible_preprocessing
from penjing.models.keras_private import all_layers
from penjing.models.lending import all_lent, method_of
from penjing.models.signature import InputSignature, output_names
from penjing.tflite.layer_names import LayerScopes


def save_traced(
    model: keras.Model,
    signature: InputSignature,
    folder: str,
    forward: Callable[[Any], Any],
    ends: EndGrids | None,
    *,
    growing: bool,
) -> tuple[list[str], LayerScopes]:
    """Write a SavedModel with one signature.

    Gives the names of its outputs, and which layers its operations are of; that is not
    known where `ends` are given, of a model that was trained with its ranges.
    """
    import tensorflow as tf

    names: list[str] = []
    sources: list[str] = []

    def serve(*flat: Any) -> dict[str, Any]:
        inputs = flat if ends is None else ends.round_inputs(flat)
        outputs = forward(signature.pack(inputs))
        names[:] = output_names(outputs)
        values = keras.tree.flatten(outputs)
        values = values if ends is None else ends.round_outputs(values)
        sources[:] = [tf.convert_to_tensor(value).op.name for value in values]
        values = [tf.identity(value) for value in values]
        return dict(zip(names, values, strict=True))

    specs = [
        tf.TensorSpec(item.shape, item.dtype, name=item.name)
        for item in signature.inputs
    ]
    module = tf.Module()
    # Without them the converter leaves variables in the file that nothing fills.
    module.kept = [variable.value for variable in model.variables]
    # Stand-ins of layers, by which a trained model rounds, would call what is lent.
    watched = all_layers(model) if ends is None else []
    # No attribute of the module: saving would trace it once more.
    traced = tf.function(serve, input_signature=specs, autograph=False)
    with (
        float32_compute(model),
        convertible_loops(model, growing=growing),
        convertible_preprocessing(model),
        _told_scopes(model, watched) as scopes,
    ):
        function = traced.get_concrete_function()
    tf.saved_model.save(module, folder, signatures={"serving_default": function})
    return names, LayerScopes(scopes=scopes, outputs=tuple(sources))


@contextlib.contextmanager
def _told_scopes(model: keras.Model, layers: Sequence[Any]) -> Iterator[dict[str, str]]:
    """Collect the scopes of layers in the block: scope -> path of its layer."""
    import tensorflow as tf

    scopes: dict[str, str] = {}
    running: list[str] = []

    def telling(layer: Any) -> Callable[..., Any]:
        original = method_of(layer, "call")

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            running.append("" if layer is model else layer.name)
            # A layer whose `call` is called itself has the scope of the one around it.
            path = "/".join(name for name in running if name)
            scopes.setdefault(tf.get_current_name_scope(), path)
            try:
                return original(*args, **kwargs)
            finally:
                running.pop()

        return call

    with all_lent((layer, "call", telling(layer)) for layer in layers):
        yield scopes
