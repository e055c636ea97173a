"""Policies: which layers of a model `prune_low_magnitude` prunes."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable

import keras

from penjing.errors import UnsupportedModelError
from penjing.models.copying import is_functional
from penjing.sparse.sparse_layers import (
    Placed,
    convolution_failure,
    is_convolution,
    is_pooling,
    is_stem,
    layer_failure,
    place_layers,
)


class PruningPolicy(abc.ABC):
    """Which layers are pruned, and which models are accepted at all.

    Example:
        >>> class DenseOnly(PruningPolicy):
        ...     def allow_pruning(self, layer):
        ...         return isinstance(layer, keras.layers.Dense)
        ...
        ...     def ensure_model_supports_pruning(self, model):
        ...         pass
        >>> DenseOnly().allow_pruning(keras.layers.Dense(3))
        True
    """

    @abc.abstractmethod
    def allow_pruning(self, layer: keras.layers.Layer) -> bool:
        """Say whether `layer` may be pruned.

        Args:
            layer: A layer of the model.

        Returns:
            False to leave the layer as it is.
        """

    @abc.abstractmethod
    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Refuse a model that this policy is not for.

        Args:
            model: The model that is to be pruned.

        Raises:
            ValueError: If the policy does not fit the model.
        """


class PruneForLatencyOnXNNPack(PruningPolicy):
    """Prune 1x1 convolutions only, in models that XNNPACK can run sparsely.

    Such a model begins with a 3x3 convolution of stride 2 on 3 channels, explicitly
    padded by 1, ends in global average pooling, and has in between only operations
    for which XNNPACK has kernels in the channels-first layout. The rules are those of
    `penjing.explain_sparsity`; `penjing.prepare_for_sparse_inference` makes models fit.

    Reference:
        Elsen et al., 2019, https://arxiv.org/abs/1911.09723
    """

    def allow_pruning(self, layer: keras.layers.Layer) -> bool:
        """Say whether `layer` is a 1x1 convolution, or ends in one."""
        if isinstance(layer, keras.layers.SeparableConv2D):
            return True
        return isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1)

    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Refuse a model in which zeros would not make XNNPACK faster.

        Raises:
            UnsupportedModelError: If the model is subclassed or not built, or has no
                sparse part, or an unsupported layer in it. It is a `ValueError`.
        """
        if not isinstance(model, keras.Sequential) and not is_functional(model):
            raise UnsupportedModelError(
                f"{type(self).__name__} follows the graph of a model, and the "
                f"subclassed model {model.name!r} has none. Use a Sequential or "
                "Functional model, or prune without a policy."
            )
        if not model.built:
            raise UnsupportedModelError(
                f"The model {model.name!r} is not built, so its graph is not known. "
                "Give it an input shape, for example with keras.Input as first layer."
            )
        for placed in _sparse_part(place_layers(model)):
            failure = _failure(placed)
            if failure is not None:
                raise UnsupportedModelError(
                    f"{type(self).__name__} does not support the layer "
                    f"{placed.name!r} of type {type(placed.layer).__name__} with these "
                    "settings, between the first convolution and the global pooling: "
                    f"{failure}. Replace it, try penjing.prepare_for_sparse_inference, "
                    "or prune without a policy."
                )


def _sparse_part(layers: list[Placed]) -> Iterable[Placed]:
    begins = [p for p in layers if len(p.producers) < len(set(p.call.inputs))]
    starts = _search(begins, _is_start, lambda placed: placed.readers)
    if not starts:
        raise UnsupportedModelError(
            "Not every input of the model leads to a 3x3 Conv2D with strides 2, "
            'padding "valid" and 3 input channels behind a ZeroPadding2D(1), '
            "where sparse inference of XNNPACK begins. Begin the model with these "
            "two layers, try penjing.prepare_for_sparse_inference, or prune without a "
            "policy."
        )
    outputs = [placed for placed in layers if placed.is_output]
    ends = _search(outputs, is_pooling, lambda placed: placed.producers)
    if not ends:
        raise UnsupportedModelError(
            "Not every output of the model comes from a GlobalAveragePooling2D, "
            "where sparse inference of XNNPACK ends. Add one before the "
            "classifier, or prune without a policy."
        )
    between: dict[int, Placed] = {}
    pending = [reader for start in starts for reader in start.readers]
    while pending:
        placed = pending.pop()
        if id(placed) not in between and placed not in ends:
            between[id(placed)] = placed
            pending.extend(placed.readers)
    return between.values()


def _search(
    sources: Iterable[Placed],
    found: Callable[[Placed], bool],
    neighbours: Callable[[Placed], Iterable[Placed]],
) -> list[Placed] | None:
    """The first layers with a property on every way; `None` at a dead end."""
    pending = list(sources)
    seen = set(map(id, pending))
    hits = []
    while pending:
        placed = pending.pop()
        if found(placed):
            hits.append(placed)
            continue
        following = list(neighbours(placed))
        if not following:
            return None
        fresh = [near for near in following if id(near) not in seen]
        seen.update(map(id, fresh))
        pending.extend(fresh)
    return hits


def _is_start(placed: Placed) -> bool:
    return is_stem(placed) and convolution_failure(placed) is None


def _failure(placed: Placed) -> str | None:
    if is_convolution(placed.layer):
        return convolution_failure(placed)
    if is_pooling(placed):
        return "only dense layers may follow global pooling"
    return layer_failure(placed)
