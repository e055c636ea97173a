"""`quantize_model` and `quantize_apply`: marked layers onto the grids of the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import keras

from penjing.engine.activations.activation_config import ActivationConfig
from penjing.engine.activations.activation_grids import ActivationGrids
from penjing.engine.batchnorm_folding import fold_batch_normalization
from penjing.engine.compression_model import CompressionModel
from penjing.engine.transforms.quantization_config import QuantizationConfig
from penjing.engine.transforms.quantization_transform import FakeQuantize
from penjing.errors import UnsupportedModelError
from penjing.models.copying import name_weights
from penjing.models.keras_private import all_layers, writes_legacy_config
from penjing.models.layer_making import defined_by_keras, make_layer_again
from penjing.models.layer_specs import find_weight_specs
from penjing.models.selection import SelectedWeight, find_weights, select_weights
from penjing.numerics.grids import Grid
from penjing.tfmot import quantize_config as quantizers
from penjing.tfmot.preserving_transforms import KeepClusters
from penjing.tfmot.quantize_annotate import (
    QuantizeAnnotate,
    check_graph,
    quantize_annotate_model,
    rebuild_graph,
)
from penjing.tfmot.quantize_config import LayerGrids, read_quantize_config
from penjing.tfmot.quantize_schemes import Default8BitQuantizeScheme, QuantizeScheme


def quantize_model(
    to_quantize: keras.Model, quantized_layer_name_prefix: str | None = "quant_"
) -> QuantizedModel:
    """Make a model train on the grids of an int8 file, all its layers.

    Args:
        to_quantize: A built Sequential or Functional model, best a trained one. It is
            left alone.
        quantized_layer_name_prefix: Put before the names of the layers.

    Returns:
        A model to compile and train; `penjing.export_litert(model, path, "int8")` then
        writes exactly what was trained.

    Raises:
        ValueError: If the model cannot be quantized.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> [layer.name[:11] for layer in quantize_model(model).layers]
        ['quant_dense']
    """
    check_graph(to_quantize, "to_quantize")
    return quantize_apply(
        quantize_annotate_model(to_quantize),
        quantized_layer_name_prefix=quantized_layer_name_prefix,
    )


def quantize_apply(
    model: keras.Model,
    scheme: QuantizeScheme | None = None,
    quantized_layer_name_prefix: str | None = "quant_",
) -> QuantizedModel:
    """Make a model train on the grids of an int8 file, those layers that are marked.

    Weights get a grid each, whose scale follows them; tensors between the layers get
    ranges that are averaged over the batches, and are rounded as LiteRT's int8 kernels
    do. Batch normalization is folded into the layer before it. Layers with weights that
    are not marked run in float.

    Args:
        model: What `quantize_annotate_model` gave, or a model with layers that
            `quantize_annotate_layer` gave. It is left alone.
        scheme: A scheme of penjing.tfmot, by default `Default8BitQuantizeScheme()`.
        quantized_layer_name_prefix: Put before the names of the marked layers.

    Returns:
        A model to compile and train.

    Raises:
        ValueError: If the model or the scheme cannot be used, or no layer is marked.
    """
    check_graph(model, "model")
    scheme = _checked_scheme(scheme)
    _check_annotated(model)
    plain, marked = _unmarked_model(model, quantized_layer_name_prefix or "")
    asked = _ask_layers(plain, marked, scheme)
    activations = _one_activation_grid(asked)
    grids = {path: grid for _, own in asked for path, grid in own.weights.items()}
    rounding = None
    if activations is not None:
        plain = fold_batch_normalization(plain)
        rounding = ActivationGrids(
            ActivationConfig(grid=activations, learn_ranges=False)
        )
    weights = find_weights(plain, list(grids))
    kept, granularities = scheme.keep(weights)
    grids = _suited(grids, weights, granularities)
    config = QuantizationConfig(
        weights=scheme.weights,
        learn_scale=False,
        include=list(grids),
        grids_by_layer=grids,
    )
    return QuantizedModel(
        plain, [*kept, FakeQuantize(config)], activations=rounding, name=model.name
    )


def quantize_scope(*args: Mapping[str, Any]) -> Any:
    """Make classes known to Keras by their bare names, one's own among them.

    Those of penjing are registered, and annotated layers keep the object of their
    config, so the scope is needed only for loading `.h5` files, and models with classes
    of one's own.

    Args:
        *args: Dictionaries of names and classes.

    Returns:
        A `keras.saving.CustomObjectScope`.
    """
    known: dict[str, Any] = {
        "QuantizeAnnotate": QuantizeAnnotate,
        "QuantizedModel": QuantizedModel,
    }
    for kind in ("LastValue", "MovingAverage", "AllValues", "Fixed"):
        known[f"{kind}Quantizer"] = getattr(quantizers, f"{kind}Quantizer")
    for classes in args:
        known |= classes
    return keras.saving.custom_object_scope(known)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Marked:
    """A layer that was marked, without its mark, and what the mark said."""

    layer: Any
    quantize_config: Any


def _checked_scheme(scheme: Any) -> QuantizeScheme:
    if scheme is None:
        return Default8BitQuantizeScheme()
    own = hasattr(scheme, "get_quantize_registry")
    if not isinstance(scheme, QuantizeScheme) or own:
        raise ValueError(
            "`scheme` must be a scheme of penjing.tfmot, such as "
            "experimental.combine.Default8BitPrunePreserveQuantizeScheme(), got "
            f"{scheme!r} of type {type(scheme).__name__}. To round a layer in another "
            "way, give quantize_annotate_layer a QuantizeConfig."
        )
    return scheme


def _check_annotated(model: keras.Model) -> None:
    layers = all_layers(model)
    if not any(isinstance(layer, QuantizeAnnotate) for layer in layers):
        raise ValueError(
            f"No layer of the model {model.name!r} is annotated, so there is nothing "
            "to quantize. Use quantize_annotate_layer or quantize_annotate_model "
            "first, or quantize_model."
        )
    if not model.built:
        raise UnsupportedModelError(
            f"The model {model.name!r} is not built, so it has no weights yet. Call "
            "`model.build(input_shape)`, or give it a keras.Input, first."
        )


def _unmarked_model(
    model: keras.Model, prefix: str
) -> tuple[keras.Model, list[_Marked]]:
    """The model without marks, its marked layers renamed; and those layers."""
    marked: list[_Marked] = []
    paths: list[tuple[Any, list[str]]] = []

    def make(layer: Any) -> Any:
        if not isinstance(layer, QuantizeAnnotate):
            twin = make_layer_again(layer)
            if isinstance(layer, keras.layers.Layer):
                paths.append((twin, [v.path for v in layer.weights]))
            return twin
        inner = layer.layer
        name = f"{prefix}{inner.name}"
        twin = make_layer_again(inner, name=name)
        marked.append(_Marked(layer=twin, quantize_config=layer.quantize_config))
        renamed = {layer.name: None, inner.name: name}
        paths.append((twin, [_renamed(v.path, renamed) for v in inner.weights]))
        return twin

    plain = rebuild_graph(model, make)
    for twin, names in paths:
        name_weights(twin, names)
    return plain, marked


def _renamed(path: str, names: Mapping[str, str | None]) -> str:
    parts = [names.get(part, part) for part in path.split("/")[:-1]]
    return "/".join([*filter(None, parts), path.rpartition("/")[2]])


def _ask_layers(
    model: keras.Model, marked: Sequence[_Marked], scheme: QuantizeScheme
) -> list[tuple[Any, LayerGrids]]:
    """What each marked layer that has weights to round is rounded to."""
    selection = select_weights(model, spare=False, frozen=True)
    taken = {weight.path: weight for weight in selection.chosen}
    asked = []
    for mark in marked:
        layer, paths = mark.layer, [v.path for v in mark.layer.weights]
        if mark.quantize_config is not None:
            grids = read_quantize_config(mark.quantize_config, layer)
            for path in grids.weights:
                if path not in taken:
                    raise UnsupportedModelError(
                        f"{type(mark.quantize_config).__name__} asks to quantize "
                        f"{path!r}, which is not possible: "
                        f"{selection.skipped.get(path, 'not compressible')}."
                    )
        else:
            own = {path: scheme.weights for path in paths if path in taken}
            grids = LayerGrids(weights=own, activations=scheme.activations)
            if not own:
                _check_known(layer)
        if grids.weights:
            asked.append((layer, grids))
    if not asked:
        raise UnsupportedModelError(
            f"No annotated layer of the model {model.name!r} has a weight that can be "
            f"quantized. {'; '.join(f'{p}: {r}' for p, r in selection.skipped.items())}"
        )
    return asked


def _check_known(layer: Any) -> None:
    """Refuse a layer of a class of one's own, of whose weights nothing is known."""
    if defined_by_keras(type(layer)):
        return
    parts = all_layers(layer)
    if layer.trainable_weights and not any(find_weight_specs(part) for part in parts):
        raise UnsupportedModelError(
            f"Which weights of the layer {layer.name!r} of class "
            f"{type(layer).__name__} can be quantized is not known. List them with "
            "penjing.register_layer_spec, or do not annotate the layer."
        )


def _one_activation_grid(asked: Sequence[tuple[Any, LayerGrids]]) -> Grid | None:
    """The grid of all activations, or `None` where they stay as they are."""
    names: dict[Grid | None, str] = {}
    for layer, grids in asked:
        names.setdefault(grids.activations, layer.name)
    if len(names) > 1:
        first, second = list(names.items())[:2]
        raise UnsupportedModelError(
            f"The layer {first[1]!r} asks for activations on {first[0]}, the layer "
            f"{second[1]!r} on {second[0]}, but all share one kind of grid, or none is "
            "rounded. Give all layers the same quantizers for activations and outputs; "
            "a layer without annotation runs in float."
        )
    return next(iter(names))


def _suited(
    grids: Mapping[str, Grid],
    weights: Sequence[SelectedWeight],
    granularities: Mapping[str, str],
) -> dict[str, Grid]:
    """Grids with the granularity that what is kept, or the shape, asks for."""
    suited = {}
    for weight in weights:
        grid = grids[weight.path]
        wanted = granularities.get(weight.path, grid.granularity)
        if weight.matrix_shape[0] == 1:
            wanted = "per_tensor"
        suited[weight.path] = dataclasses.replace(grid, granularity=wanted)
    return suited


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
        whole = self._shows_state or writes_legacy_config()
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
