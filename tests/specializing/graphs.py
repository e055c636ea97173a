"""Small files, written tensor by tensor."""

from __future__ import annotations

import numpy as np

from penjing.tflite.graph_edits import add_tensor, make_operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, make_scales, set_values
from penjing.tflite.writing import write_records

_TYPES = {"f4": "FLOAT32", "i4": "INT32", "i1": "INT8", "i2": "INT16", "?": "BOOL"}
_TYPES |= {"i8": "INT64"}


class Graph:
    """A file in the making; tensors are known by their numbers."""

    def __init__(self):
        self.graph = Record("SubGraph")
        self.model = Record(
            "Model", version=3, subgraphs=[self.graph], buffers=[Record("Buffer")]
        )

    def tensor(self, shape, kind="f4", *, free=False, scale=None, zero_point=0):
        """Add a tensor; with `free` its first size is."""
        item = Record("Tensor", shape=np.array(shape, "<i4"))
        item["name"] = f"tensor_{len(self.graph['tensors'])}".encode()
        item["type"] = TensorType[_TYPES[kind]]
        if free:
            item["shape_signature"] = np.array([-1, *shape[1:]], "<i4")
        if scale is not None:
            item["quantization"] = make_scales(np.array([scale]))
            item["quantization"]["zero_point"] = np.array([zero_point], "<i8")
        return add_tensor(self.graph, item)

    def constant(self, values, kind="f4", **quantization):
        """Add a constant."""
        number = self.tensor(np.shape(values), kind, **quantization)
        set_values(self.model, self.graph["tensors"][number], np.asarray(values, kind))
        return number

    def add(self, code, inputs, output, options=None, version=1):
        """Add an operator; gives its output."""
        made = make_operator(
            self.model, code, inputs, output, options=options, version=version
        )
        self.graph["operators"] = [*self.graph["operators"], made]
        return output

    def content(self, inputs, outputs):
        """The file, with a signature that names inputs and outputs."""
        self.graph["inputs"] = np.array(inputs, "<i4")
        self.graph["outputs"] = np.array(outputs, "<i4")
        sides = {
            side: [
                Record("TensorMap", name=f"{word}_{n}".encode(), tensor_index=number)
                for n, number in enumerate(numbers)
            ]
            for side, word, numbers in (
                ("inputs", "x", inputs),
                ("outputs", "output", outputs),
            )
        }
        self.model["signature_defs"] = [
            Record("SignatureDef", signature_key=b"serving_default", **sides)
        ]
        return write_records(self.model)
