"""What penjing uses of Keras beyond its public interface, each thing once.

A release of Keras may drop any of it. So each function says why the public interface
does not do, and the first of the versions 3.0, 3.3, 3.6, 3.9, 3.12 and 3.15 that has
it; all have it from there on. Nothing else in penjing imports `keras.src` or touches
an attribute of Keras that begins with an underscore.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
from keras.src.backend.common.global_state import (
    get_global_attribute,
    set_global_attribute,
)
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.random.seed_generator import global_seed_generator

from penjing.models.stand_ins import stand_in

# Layers and variables


def all_layers(layer: keras.layers.Layer) -> list[Any]:
    """A layer and all within it, each once; `layers` stops at the first level (3.0)."""
    return list(layer._flatten_layers())


def direct_layers(layer: keras.layers.Layer) -> list[Any]:
    """The layers that a layer holds itself; only models have `layers` (3.0)."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def own_variables(layer: keras.layers.Layer) -> list[Any]:
    """Variables of a layer but those of layers within it, seeds and metrics (3.0)."""
    found: list[Any] = layer._trainable_variables + layer._non_trainable_variables
    return found


def stored_variable(layer: keras.layers.Layer, attribute: str) -> Any:
    """The variable behind an attribute, None where there is none.

    `kernel` of a layer with LoRA or a quantized one is a computed tensor; the variable
    is `_kernel` (3.3).
    """
    value = getattr(layer, "_" + attribute, None)
    if not isinstance(value, keras.Variable):
        value = getattr(layer, attribute, None)
    return value if isinstance(value, keras.Variable) else None


@contextlib.contextmanager
def without_values() -> Iterator[list[Any]]:
    """Variables made in the block get shapes and no values; the list collects them.

    Keras makes their values where the scope ends, unless they are forgotten. Names that
    the block gave are given anew after it, and so is the generator of all random
    numbers without a seed, if the block made it: it would have no value (3.0).
    """
    generator = get_global_attribute("global_seed_generator")
    names = get_global_attribute("object_name_uids")
    before = None if names is None else names.copy()
    waiting = get_global_attribute("uninitialized_variables")
    made: list[Any] = []
    set_global_attribute("uninitialized_variables", made)
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield made
    finally:
        set_global_attribute("uninitialized_variables", waiting or [])
        set_global_attribute("object_name_uids", before)
        set_global_attribute("global_seed_generator", generator)


def layer_outputs(layer: keras.layers.Layer) -> list[Any]:
    """What a layer gives in each of its calls in graphs; `output` is of one (3.0)."""
    nodes = getattr(layer, "_inbound_nodes", None) or []
    return [tensor for node in nodes for tensor in node.output_tensors]


def legacy_model(config: Any, custom_objects: dict[str, Any]) -> Any:
    """A model from the config in a `.h5` file, which has no public reader (3.0)."""
    from keras.src.legacy.saving import json_utils, saving_options, saving_utils
    from keras.src.saving import serialization_lib

    with (
        saving_options.keras_option_scope(use_legacy_config=True),
        serialization_lib.SafeModeScope(True),
    ):
        return saving_utils.model_from_config(
            json_utils.decode(config), custom_objects=custom_objects
        )


def copy_frozen(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Freeze a layer where another is frozen by itself.

    `trainable` of a layer is False too where a layer around it is frozen (3.0).
    """
    if target._trainable != source._trainable:
        target.trainable = source._trainable


def set_path(variable: Any, path: str) -> None:
    """Give a variable another path; it has one from its making for good (3.0)."""
    variable._path = path


def lay_out_as(weight: Any, state: Any) -> None:
    """Spread a variable over devices as a weight of its shape; no map has it (3.12)."""
    if getattr(weight, "_layout", None) is not None:
        state._layout = weight._layout
        state.assign(state.value)


def given_input_shape(layer: keras.layers.Layer) -> Any:
    """`input_shape` that a layer was made with, by which Sequential builds (3.0)."""
    return getattr(layer, "_input_shape_arg", None)


def take_input_shape(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Let Sequential build itself by a layer as by the one inside it (3.0)."""
    shape = given_input_shape(source)
    if shape is not None:
        target._input_shape_arg = shape


def lambda_output_shape(layer: keras.layers.Lambda) -> Any:
    """`output_shape` that a Lambda was made with; its config holds code (3.0)."""
    return layer._output_shape


class AttentionParts(NamedTuple):
    """The dense layers inside an attention layer; `gate` is None in most."""

    query: Any
    key: Any
    value: Any
    output: Any
    gate: Any


def attention_parts(layer: keras.layers.Layer) -> AttentionParts:
    """The parts of an attention layer, which no public name tells apart.

    `MultiHeadAttention` and `GroupQueryAttention` have them since 3.0, the gate 3.15.
    """
    return AttentionParts(
        query=layer._query_dense,
        key=layer._key_dense,
        value=layer._value_dense,
        output=layer._output_dense,
        gate=getattr(layer, "_gate_dense", None),
    )


# Chance


def generators_of(layer: keras.layers.Layer) -> list[Any]:
    """The random generators of a layer but those of layers within it (3.0)."""
    return list(layer._seed_generators)


def given_seed(generator: Any) -> int | None:
    """The seed that a generator was made with, None where Keras drew one (3.0)."""
    seed: int | None = generator._initial_seed
    return seed


def global_generator() -> Any:
    """The generator of `keras.random` functions without a seed; made if need be (3.0).

    Nothing public gives it or sets its state.
    """
    return global_seed_generator()


def keep_global_generator(generator: Any) -> None:
    """Put back the generator that `set_random_seed` forgets (3.0)."""
    set_global_attribute("global_seed_generator", generator)


# Graphs


def functional_of(model: Any) -> Any:
    """The graph that a built Sequential runs, None where a layer has none (3.0)."""
    return getattr(model, "_functional", None)


def graph_nodes(graph: Any) -> Iterator[Any]:
    """Calls in a Functional model, but its inputs, in the order in which they run.

    `operations` has no arguments of calls, and a shared layer once (3.0).
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.operation and not node.is_input:
                yield node


def operation_behind(tensor: Any) -> Any:
    """The operation that gives a symbolic tensor out (3.0)."""
    return tensor._keras_history.operation


def tensors_before(tensor: Any) -> list[Any]:
    """The symbolic tensors that a symbolic tensor is computed from (3.0)."""
    operation, node, _ = tensor._keras_history
    return list(operation._inbound_nodes[node].input_tensors)


def running_otherwise(
    model: Any,
    replace: Callable[[Any], Any],
    change_inputs: Callable[[list[Any]], list[Any]] | None = None,
) -> Any:
    """A stand-in of a Sequential or Functional model that runs its graph otherwise.

    `replace` gives what runs in place of an operation. `change_inputs` takes the inputs
    in the order of `inputs`; they come nested in many ways (3.0, 3.6 for the first).
    """
    functional = functional_of(model)
    if functional is not None:
        graph = running_otherwise(functional, replace, change_inputs)
        return stand_in(model, _functional=graph)
    run, standardize = model._run_through_graph, model._standardize_inputs

    def run_through_graph(inputs: Any, operation_fn: Any, **kwargs: Any) -> Any:
        return run(inputs, lambda each: operation_fn(replace(each)), **kwargs)

    def standardize_inputs(inputs: Any) -> Any:
        standard = standardize(inputs)
        return standard if change_inputs is None else change_inputs(standard)

    return stand_in(
        model,
        _run_through_graph=run_through_graph,
        _standardize_inputs=standardize_inputs,
    )


# Calls


def takes_mask(layer: keras.layers.Layer) -> bool:
    """Whether `call` takes `mask`, as Keras understands its signature (3.0)."""
    return bool(layer._call_has_mask_arg)


def takes_training(operation: Any) -> bool:
    """Whether `call` takes `training`; False for operations that are no layer (3.0)."""
    return bool(getattr(operation, "_call_has_training_arg", False))


def call_signature(layer: keras.layers.Layer) -> inspect.Signature:
    """The signature of `call` by which Keras sorts arguments (3.0)."""
    signature: inspect.Signature = layer._call_signature
    return signature


def take_call_over(
    inner: keras.layers.Layer, outer: keras.layers.Layer, signature: inspect.Signature
) -> None:
    """Let a wrapper with a `call` of `*args` take what the layer inside it takes.

    Keras reads this off the wrapper's own `call` in its constructor (3.0).
    """
    outer._call_signature = signature
    outer._convert_input_args = inner._convert_input_args
    outer._allow_non_tensor_positional_args = inner._allow_non_tensor_positional_args


def forward_pass(layer: keras.layers.Layer) -> Any:
    """An object that lives as long as the running forward pass, for telling them apart.

    On JAX a stateless call of a model has a scope, but no call context (3.0).
    """
    return get_stateless_scope() or layer._get_call_context()


class OutsideScope:
    """A block in which variables are what they are around a scope, in this thread.

    The scope is one that was entered and not left; Keras has one for each thread (3.0).
    A class: PyTorch's compiler follows those, not every generator.
    """

    def __init__(self, scope: keras.StatelessScope) -> None:
        self._scope = scope
        self._running: Any = None

    def __enter__(self) -> None:
        self._running = get_stateless_scope()
        set_global_attribute("stateless_scope", self._scope.original_scope)

    def __exit__(self, *error: object) -> None:
        set_global_attribute("stateless_scope", self._running)


def clear_losses(layer: keras.layers.Layer) -> None:
    """Forget what layers added to the loss in a call; Keras does so in `fit` (3.0)."""
    layer._clear_losses()


def writes_legacy_config() -> bool:
    """Whether Keras is writing an .h5 file or reading one (3.0)."""
    return bool(get_global_attribute("use_legacy_config"))


# Compiled models

# What `compile` gives a model, by which `compute_loss` goes.
_COMPILED = ("_compile_loss", "_compile_metrics", "_loss_tracker", "loss", "compiled")


def is_rematerialized(layer: Any) -> bool:
    """Whether a layer was made in a `keras.RematScope` that is for it (3.9)."""
    mode = getattr(layer, "_remat_mode", None)
    if mode is None or mode.mode is None:
        return False
    return mode.mode != "list_of_layers" or layer.name in (mode.layer_names or ())


def compiled_config(model: keras.Model) -> dict[str, Any]:
    """What it was compiled with; `get_compile_config` fails for a user's own (3.0)."""
    return model._compile_config.config  # type: ignore[no-any-return]


def compiled_as(inner: keras.Model, outer: keras.Model) -> keras.Model:
    """A stand-in of `inner`, which is not compiled, with what `compile` gave `outer`.

    Compiling `inner` too would make its metrics and losses again (3.0).
    """
    return stand_in(inner, **{name: getattr(outer, name, None) for name in _COMPILED})


def build_loss(model: keras.Model, y: Any, y_pred: Any) -> None:
    """Build the compiled loss where it is not, before it is lent (3.0)."""
    loss = model._compile_loss
    if loss is not None and not loss.built:
        loss.build(y, y_pred)


def compute_loss_takes_training(model: keras.Model) -> bool:
    """Whether `compute_loss` takes `training`, which older ones do not (3.6)."""
    return bool(model._compute_loss_has_training_arg)


def own_metrics(model: keras.Model) -> Sequence[keras.metrics.Metric]:
    """Metrics that a model keeps itself, over which a model around it passes (3.0)."""
    metrics: Sequence[keras.metrics.Metric] = model._metrics
    return metrics


def trained_model(callbacks: keras.callbacks.CallbackList) -> keras.Model:
    """The model of a list of callbacks, for one that joins it later (3.0)."""
    return callbacks._model


def variable_index(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Place of a variable among those that an optimizer was built for (3.0)."""
    index: int = optimizer._get_variable_index(variable)
    return index


# Layers that Keras quantized


def scale_of_kernel(layer: Any) -> Any:
    """The scales of an int8 layer in the order of its kernel's axes (3.3).

    An EinsumDense keeps them in that of its outputs.
    """
    adjust = getattr(layer, "_adjust_scale_for_dequant", None)
    return layer.kernel_scale if adjust is None else adjust(layer.kernel_scale)


@contextlib.contextmanager
def written_as_plain(model: keras.layers.Layer) -> Iterator[None]:
    """Let layers that Keras quantized give the config of plain ones in the block (3.3).

    Keras has no way back from `quantize`, and makes some layers within others as plain
    ones from a config that says otherwise. The config of a calibration stands in layers
    that it left alone too, and holds the model.
    """
    kept = [
        (layer, layer.dtype_policy, getattr(layer, "quantization_config", None))
        for layer in all_layers(model)
        if hasattr(layer, "quantization_config") or layer.quantization_mode
    ]
    try:
        for layer, policy, _ in kept:
            layer.dtype_policy = policy.name.rpartition("_from_")[2]
            layer.quantization_config = None
        yield
    finally:
        for layer, policy, config in kept:
            layer.dtype_policy = policy
            layer.quantization_config = config
