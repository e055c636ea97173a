"""Which layers and products run in a forward pass, on which shapes, without numbers.

The model runs once on placeholders of known shapes. While it does, `call` of its layers
and the products of `keras.ops` report what they were called on.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from penjing.errors import UnsupportedModelError
from penjing.models.copying import is_functional
from penjing.models.keras_private import all_layers, functional_of
from penjing.models.lending import Loan, all_lent, method_of
from penjing.models.signature import (
    InputSignature,
    ModelInput,
    input_signature,
    needed_arguments,
    signature_of_arguments,
)

Shape = tuple[int, ...]
# Products of `keras.ops` that a model's own code may call.
PRODUCTS = (
    "matmul",
    "dot",
    "inner",
    "tensordot",
    "einsum",
    "conv",
    "depthwise_conv",
    "separable_conv",
    "conv_transpose",
    "dot_product_attention",
)
# The same products as operations of a Functional model: class name -> name.
_OPERATIONS = {name.title().replace("_", ""): name for name in PRODUCTS}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerCall:
    """One call of a layer or of a product.

    Attributes:
        layer: The layer that was called, or whose code called the product; None for a
            product in a Functional model's graph or in the code of the model.
        product: Name of the product in `PRODUCTS`, None for the call of a layer.
        operands: What it was called on, in the order of its parameters, however it was
            given: a shape for each tensor or weight, other values as they are.
        weights: For each operand the path of the weight that it is, else None.
        output: Shape of the first of what it gave out.
    """

    layer: Any
    product: str | None = None
    operands: tuple[Any, ...]
    weights: tuple[str | None, ...] = ()
    output: Shape


def check_is_model(model: Any) -> None:
    """Refuse what is no Keras model, such as the path of one."""
    if not isinstance(model, keras.Model):
        raise UnsupportedModelError(
            f"`model` must be a keras.Model, got {type(model).__name__}. Load a saved "
            "model with keras.models.load_model first."
        )


def known_signature(
    model: keras.Model, input_shape: Sequence[Any] | None = None
) -> InputSignature:
    """Inputs of a built model with every size known; a free batch becomes 1.

    `input_shape` is the shape of its input without the batch axis, or one for each
    input: a ValueError if it does not fit. A size still free is an
    UnsupportedModelError.
    """
    if _takes_many_arguments(model):
        return _signature_of_many(model, input_shape)
    signature = input_signature(model)
    given: list[Any] = [None] * len(signature.inputs)
    if input_shape is not None:
        if not isinstance(input_shape, Sequence):
            input_shape = (input_shape,)
        many = any(isinstance(item, Sequence) for item in input_shape)
        given = list(input_shape) if many else [input_shape]
        wanted = len(signature.inputs)
        if len(given) != wanted:
            raise ValueError(
                f"`input_shape` must give one shape for each of the {wanted} inputs of "
                f"`{model.name}`, got {input_shape!r}."
            )
    inputs = tuple(
        _known(item, shape, model.name)
        for item, shape in zip(signature.inputs, given, strict=True)
    )
    return dataclasses.replace(signature, inputs=inputs)


def _takes_many_arguments(model: keras.Model) -> bool:
    """Whether a subclassed model is called as `model(a, b)`."""
    is_graph = is_functional(model) or isinstance(model, keras.Sequential)
    return not is_graph and len(needed_arguments(model)) > 1


def _signature_of_many(
    model: keras.Model, input_shape: Sequence[Any] | None
) -> InputSignature:
    names = needed_arguments(model)
    given = list(input_shape or ())
    if len(given) != len(names) or not all(isinstance(s, Sequence) for s in given):
        raise UnsupportedModelError(
            f"The `call` of `{model.name}` takes {', '.join(names)}, of which Keras "
            "keeps the shape of the first alone. Say one for each without the batch "
            "axis, as in input_shape=[(8,), (28, 28, 1)], got "
            f"{input_shape!r}."
        )
    signature = signature_of_arguments(dict(zip(names, given, strict=True)))
    inputs = tuple(
        _known(item, shape, model.name)
        for item, shape in zip(signature.inputs, given, strict=True)
    )
    return dataclasses.replace(signature, inputs=inputs)


def _known(item: ModelInput, given: Any, model: str) -> ModelInput:
    shape = item.shape
    if given is not None:
        fits = len(given) == len(shape) - 1 and all(
            isinstance(mine, int) and mine > 0 and theirs in (None, mine)
            for mine, theirs in zip(given, shape[1:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"`input_shape` for input `{item.name}` of `{model}` must fit "
                f"{shape[1:]}, got {given!r}. Leave the batch axis out."
            )
        shape = (shape[0], *given)
    if None in shape[1:]:
        raise UnsupportedModelError(
            f"Input `{item.name}` of `{model}` has the shape {shape}: what a layer "
            "costs depends on the sizes that are None. Say them without the batch "
            "axis, as in input_shape=(224, 224, 3)."
        )
    return dataclasses.replace(item, shape=(shape[0] or 1, *shape[1:]))


def trace_calls(
    model: keras.Model, signature: InputSignature, is_whole: Callable[[Any], bool]
) -> list[LayerCall]:
    """Run a built model on placeholders and list what it calls, in order.

    `signature` comes from `known_signature`; what `is_whole` is one entry, and nothing
    within it is listed. A model that cannot run so is an UnsupportedModelError.
    """
    recorder = _Recorder(is_whole)

    def forward(*tensors: Any) -> Any:
        recorder.calls.clear()  # some backends run it again on real tensors
        packed = signature.pack(tensors)
        if _takes_many_arguments(model):
            return model(*packed, training=False)
        return model(packed, training=False)

    placeholders = [
        keras.KerasTensor(item.shape, dtype=item.dtype) for item in signature.inputs
    ]
    try:
        with all_lent(recorder.listeners(model)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values, of which there are none
            _Forward(forward).compute_output_spec(*placeholders)
    except Exception as error:
        raise UnsupportedModelError(
            f"The model `{model.name}` cannot run on inputs of the shapes "
            f"{[item.shape for item in signature.inputs]} without values: {error} "
            "Its `call` must not depend on the values of tensors."
        ) from error
    return recorder.calls


class _Forward(keras.Operation):
    """A function as an operation: Keras infers its outputs by running `call`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def call(self, *tensors: Any) -> Any:
        return self._function(*tensors)


class _Recorder:
    def __init__(self, is_whole: Callable[[Any], bool]) -> None:
        self.calls: list[LayerCall] = []
        self._is_whole = is_whole
        self._running: list[Any] = []
        self._muted = 0

    def listeners(self, model: keras.Model) -> Iterator[Loan]:
        """What lets the layers of a model and `keras.ops` report their calls."""
        for operation in _operations(model):
            is_quantized = getattr(operation, "quantization_mode", None) is not None
            name = "quantized_call" if is_quantized else "call"
            yield operation, name, self._hook(operation, method_of(operation, name))
        for name in PRODUCTS:
            yield keras.ops, name, self._product(name, method_of(keras.ops, name))

    def _hook(self, operation: Any, original: Callable[..., Any]) -> Any:
        if not isinstance(operation, keras.layers.Layer):
            return self._product(_OPERATIONS[type(operation).__name__], original)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            whole = self._is_whole(operation)
            self._running.append(operation)
            self._muted += whole
            try:
                outputs = original(*args, **kwargs)
            finally:
                self._running.pop()
                self._muted -= whole
            self._record(operation, None, _in_order(original, args, kwargs), outputs)
            return outputs

        return call

    def _product(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            layer = self._running[-1] if self._running else None
            owner = getattr(original, "__self__", None)
            operands = _in_order(original, args, kwargs)
            if name == "einsum" and owner is not None:
                operands = (owner.subscripts, *operands)
            self._record(layer, name, operands, outputs)
            return outputs

        return call

    def _record(
        self, layer: Any, product: str | None, operands: Any, outputs: Any
    ) -> None:
        shapes = [_shape(leaf) for leaf in keras.tree.flatten(outputs)]
        if self._muted or not shapes or not isinstance(shapes[0], tuple):
            return
        call = LayerCall(
            layer=layer,
            product=product,
            operands=tuple(keras.tree.map_structure(_shape, list(operands))),
            weights=tuple(
                item.path if isinstance(item, keras.Variable) else None
                for item in operands
            ),
            output=shapes[0],
        )
        self.calls.append(call)


def _in_order(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, ...]:
    """Arguments in the order of the parameters, those given by name too."""
    return inspect.signature(function).bind(*args, **kwargs).args


def _operations(model: keras.Model) -> Iterator[Any]:
    """Layers of a model but itself, and the products in its graphs, each once."""
    seen: set[int] = set()
    for layer in all_layers(model):
        graph = functional_of(layer) or layer
        found = getattr(graph, "operations", ())
        products = [op for op in found if type(op).__name__ in _OPERATIONS]
        for operation in (layer, *products):
            is_graph = isinstance(operation, keras.Model) and operation is model
            if id(operation) not in seen and not is_graph:
                seen.add(id(operation))
                yield operation


def _shape(value: Any) -> Any:
    """The shape of a tensor or weight; other values as they are."""
    shape = getattr(value, "shape", None)
    return value if shape is None else tuple(int(size) for size in shape)
