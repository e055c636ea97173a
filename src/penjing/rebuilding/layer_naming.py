"""Names of Keras layers from what a file calls its tensors."""

from __future__ import annotations

import re

from penjing.rebuilding.source_graph import SourceGraph
from penjing.tflite.operators import Call, Operator

_LONGEST = 60
# What converters call tensors that had no name of their own.
_NAMELESS = re.compile(
    r"^(StatefulPartitionedCall|PartitionedCall|Identity|arith|tfl|serving|output"
    r"|functional|sequential|model)?[_.:\d]*$"
)


class LayerNames:
    """Gives each operator a name that is free in the model."""

    def __init__(self, graph: SourceGraph) -> None:
        self._graph = graph
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}  # the last one given to a name

    def name(self, call: Call) -> str:
        """The name of the layer that made an operator, or of its kind.

        The last part of a name is that of the operation, the first that of the model.
        """
        text = self._graph.name(call.output) if call.outputs else ""
        parts = [part for part in text.split(";")[-1].split("/") if part]
        kept = parts[1:-1] if len(parts) > 2 else parts[:1]
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join(kept)).strip("_.-")[-_LONGEST:]
        if _NAMELESS.match(name) or not name[:1].isalpha():
            name = Operator(call.code).name.lower()
        return self.free(name)

    def free(self, name: str) -> str:
        """The name, with a number behind it where it is taken."""
        number, free = self._numbers.get(name, 0), name
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        self._numbers[name] = number
        return free
