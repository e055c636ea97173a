"""Models that Keras itself quantized, by `model.quantize(...)`, as models of floats.

Keras keeps integers and scales as variables of the layer, packed where they have four
bits, and computes with them by code that no other runtime has. Taken over, a layer is
the plain one of before, whose weights are what the integers stand for: they lie on the
same grids, which training and export find by themselves.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.errors import UnsupportedModelError
from penjing.models.copying import copy_layer_values, make_again
from penjing.models.keras_private import (
    all_layers,
    own_variables,
    scale_of_kernel,
    set_path,
    stored_variable,
    written_as_plain,
)

_MODES = ("int8", "int4", "gptq", "awq")
_CALIBRATED = ("gptq", "awq")
Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlainTwin:
    """A model of floats in place of one that Keras quantized.

    Attributes:
        model: The twin; the given one stays as it is.
        modes: What Keras did, as "int8".
        off_grid: Paths of weights with scales that change along the inputs, by groups
            or one by one, so that they lie on no grid of a channel.
    """

    model: keras.Model
    modes: tuple[str, ...]
    off_grid: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"The model `{self.model.name}` was quantized by Keras "
            f"({', '.join(self.modes)}): its integers are taken over as weights on the "
            "same grids, its rounding of inputs is not"
        )


def quantized_by_keras(model: Any) -> list[Any]:
    """The layers of a model whose weights Keras itself made integers or float8."""
    if not isinstance(model, keras.layers.Layer):
        return []
    return [
        layer
        for layer in all_layers(model)
        if getattr(layer, "quantization_mode", None) is not None
        and not isinstance(layer, keras.Model)
    ]


def make_plain(model: keras.Model) -> PlainTwin:
    """A copy of a model with floats in place of Keras' integers.

    What cannot be taken over is an UnsupportedModelError: float8, LoRA beside integers,
    and layers of the user's own or of Keras whose integers are not known.
    """
    layers = quantized_by_keras(model)
    floats = {id(layer): _float_weights(layer) for layer in layers}
    modes = sorted({str(layer.quantization_mode) for layer in layers})
    with written_as_plain(model):
        twin = make_again(model)

    def values_of(mine: Any, yours: Any) -> list[Any]:
        if id(yours) not in floats:
            return [variable.value for variable in own_variables(yours)]
        prefix = own_variables(yours)[0].path.rpartition("/")[0]
        known = floats[id(yours)]
        values = []
        for variable in own_variables(mine):
            set_path(variable, f"{prefix}/{variable.name}")
            given = known.get(variable.name)
            values.append(getattr(yours, variable.name) if given is None else given)
        return values

    copy_layer_values(model, twin, values_of)
    return PlainTwin(
        model=twin,
        modes=tuple(modes),
        off_grid=tuple(layer.path for layer in layers if _is_off_grid(layer)),
    )


def plain_or_same(model: Any) -> Any:
    """The plain twin of a model that Keras quantized, any other as it is."""
    return make_plain(model).model if quantized_by_keras(model) else model


def _float_weights(layer: Any) -> dict[str, Array]:
    """What the integers of a layer stand for, by the name of the plain variable."""
    mode = layer.quantization_mode
    if mode not in _MODES:
        raise _refusal(layer, f"{mode} is no grid of integers")
    if getattr(layer, "lora_enabled", False):
        raise _refusal(layer, "it has LoRA weights beside its integers")
    if mode in _CALIBRATED and not getattr(layer, f"is_{mode}_calibrated", False):
        # It stood in no block that was calibrated, and has its floats.
        return {"kernel": _array(stored_variable(layer, "kernel"))}
    try:
        if isinstance(layer, keras.layers.Embedding):
            return _tables(layer)
        if isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense):
            return {"kernel": _kernel(layer)}
    except (AttributeError, ValueError, IndexError, TypeError) as error:
        raise _refusal(layer, f"its integers are kept otherwise ({error})") from error
    raise _refusal(layer, "how this class keeps its integers is not known")


def _kernel(layer: Any) -> Array:
    integers = _array(layer.kernel)
    mode, scale = layer.quantization_mode, _array(layer.kernel_scale)
    if mode in _CALIBRATED:
        shape = getattr(layer, "original_kernel_shape", None)
        kernel = _of_groups(layer, integers.T, scale.T, _array(layer.kernel_zero).T)
        if mode == "awq":
            kernel = kernel / _array(layer.awq_scales)[:, None]
        return kernel if shape is None else kernel.reshape(shape)
    if mode == "int8":
        return np.asarray(integers / _array(scale_of_kernel(layer)))
    columns = scale.shape[-1]
    rows = integers.reshape(-1, columns)
    if scale.ndim == 1:
        return (rows / scale).reshape(integers.shape)
    floats = _of_groups(layer, rows, scale, _array(layer.kernel_zero))
    return floats.reshape(integers.shape)


def _tables(layer: Any) -> dict[str, Array]:
    integers, scale = _array(layer.embeddings), _array(layer.embeddings_scale)
    if scale.ndim == 1:
        found = {"embeddings": integers / scale[:, None]}
    else:
        zero = _array(layer.embeddings_zero)
        found = {"embeddings": _of_groups(layer, integers.T, scale.T, zero.T).T}
    if hasattr(layer, "reverse_embeddings"):
        found["reverse_embeddings"] = _reverse_table(layer)
    return found


def _reverse_table(layer: Any) -> Array:
    integers = layer.reverse_embeddings.value
    if layer.quantization_mode == "int4":
        integers = keras.quantizers.unpack_int4(integers, layer.output_dim, axis=0)
    scale = _array(layer.reverse_embeddings_scale)
    if scale.ndim == 1:
        return np.asarray(_array(integers) / scale)
    zero = _array(layer.reverse_embeddings_zero)
    return _of_groups(layer, _array(integers), scale, zero)


def _of_groups(layer: Any, integers: Array, scale: Array, zero: Array) -> Array:
    """Floats of `(inputs, outputs)`, with scale and zero `(groups, outputs)`."""
    groups = _array(layer.g_idx).astype(int)
    return np.asarray((integers - zero[groups]) * scale[groups], "float32")


def _is_off_grid(layer: Any) -> bool:
    scales, groups = getattr(layer, "awq_scales", None), getattr(layer, "g_idx", None)
    if scales is not None and (_array(scales) != 1).any():
        return True
    return groups is not None and np.unique(_array(groups).astype(int)).size > 1


def _array(tensor: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def _refusal(layer: Any, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"The layer `{layer.path}` was quantized by Keras "
        f"({layer.quantization_mode}), and cannot be taken over: {why}. Give the model "
        "as it was before `model.quantize(...)`."
    )
