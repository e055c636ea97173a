"""What TensorFlow's converter says, in sentences that name operations and layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from penjing.export.verification import NO_16_BIT_KERNELS
from penjing.tflite.layer_names import layer_in

_MISSING = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")
_NAMED = re.compile(r"'(?:tf|tfl)\.(\w+)' op\b|operation '(?:tf|tfl)\.(\w+)'")
# Where the converter says that an operation stands: its kind, and its path.
_PLACE = re.compile(r'fused\["(\w+):", "([^"@]+)@')
_MOST = 5
_UNTRACKED = "'untracked' resource"
_WITHOUT_RANGE = "Max and min for dynamic tensors should be recorded"


def explain(text: str, layers: Collection[str], activations: str) -> str:
    """Say which operations the converter stops at, in which layers, and what helps.

    `text` is all that it said, `layers` are the names of those in the model,
    `activations` the type that they were to have.
    """
    places = {
        kind: layer_in(path.split("/")[:-1], layers)
        for kind, path in _PLACE.findall(text)
    }
    missing = list(dict.fromkeys(_MISSING.findall(text)))
    if missing:
        return (
            "LiteRT has no kernel for these operations as the model uses them: "
            f"{_listed(missing, places)}. Let the model begin behind them, or end "
            "before them, and compute them outside; or write them in other operations."
        )
    if _WITHOUT_RANGE in text:
        return "It finds no range for some tensor. " + _advice(activations)
    if _UNTRACKED in text:
        return (
            "The model keeps what its file would not have: the state of a recurrent "
            "layer with stateful=True, a table of words, or a tf.Variable of its own. "
            "Give states as inputs and outputs of the model, look up before it, or "
            "make the variable a weight by `add_weight`."
        )
    named = list(dict.fromkeys(a or b for a, b in _NAMED.findall(text)))
    if named:
        return f"It stops at {_listed(named, places)}. {_advice(activations)}"
    return f"It names no operation. {_advice(activations)}"


def _advice(activations: str) -> str:
    if activations == "int16":
        return NO_16_BIT_KERNELS
    return "Replace the operation, or export with another `quantization`."


def _listed(kinds: Collection[str], places: Mapping[str, str | None]) -> str:
    shown = [
        f"{kind} (in the layer `{places[kind]}`)" if places.get(kind) else kind
        for kind in list(kinds)[:_MOST]
    ]
    more = len(kinds) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
