"""Names of Keras layers in what converters write."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping


def layer_in(parts: Iterable[str], layers: Collection[str]) -> str | None:
    """The last part of a path that is the name of a layer; None where none is.

    Tracing puts a number behind names that are there already.

    Example:
        >>> layer_in(["functional_1", "gate_1", "Gelu"], ["gate", "functional"])
        'gate'
    """
    for part in reversed(list(parts)):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in layers:
                return name
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerScopes:
    """Which layers the operations of a converted model are of.

    Attributes:
        scopes: How names of operations begin -> the path of the layer that made them:
            the names of the layers around it and its own, without the model's, which
            is the empty path.
        outputs: For each output of the file the operation that gives it: the converter
            gives that tensor a name of its own.
    """

    scopes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def layers_of(self, name: str) -> list[str]:
        """Paths of the layers that a tensor is of, whose operations became one.

        The one with the weights comes first; none where no layer made it.

        Example:
            >>> scopes = LayerScopes(scopes={"net": "", "net/act_1": "act",
            ...     "net/conv_1": "conv"})
            >>> scopes.layers_of("net/act_1/Relu;net/conv_1/convolution")
            ['conv', 'act']
            >>> scopes.layers_of("net/Add")
            []
        """
        found = (self._layer_of(part) for part in reversed(name.split(";")))
        return list(dict.fromkeys(path for path in found if path))

    def own_name(self, name: str) -> str:
        """What to call an operation outside of all layers: its name in the model.

        Example:
            >>> LayerScopes(scopes={"net_1": ""}).own_name("net_1/Add_2")
            'Add_2'
        """
        last = name.split(";")[-1]
        scope = self._scope_of(last)
        return last if not scope else last[len(scope) + 1 :]

    def _layer_of(self, name: str) -> str:
        return self.scopes.get(self._scope_of(name), "")

    def _scope_of(self, name: str) -> str:
        """The longest scope that a name begins with."""
        parts = name.split("/")[:-1]
        while parts and "/".join(parts) not in self.scopes:
            parts.pop()
        return "/".join(parts)
