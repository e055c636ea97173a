"""The operators of a `.tflite` file as XNNPACK sees them: padding taken up."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.sparse import sparse_rules
from penjing.sparse.sparse_rules import Convolution
from penjing.tflite.operators import operator_name
from penjing.tflite.records import Record
from penjing.tflite.tensors import FLOATS, TensorType, data_of, is_plain, values_of

NOT_FLOAT = "it does not compute in float, as sparse kernels do"
_SAME = 0  # of the schema's `Padding`
_UNPACKING = ("DENSIFY", "DEQUANTIZE")

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operator that computes, and the number of the first tensor that it gives.

    Attributes:
        label: What the file calls its weights or its output.
        inputs: Numbers of the computed tensors that it reads.
        weights: Number of the constant that holds its weights, None without any.
        weights_count: Weights of a 1x1 convolution, else 0; `zeros` are among these.
        failure: Why it cannot run with the channels first, None where it can.
        is_stem: Whether channels come first from here on.
        is_inside: Whether it can stand behind the stem.
        is_exit: Whether channels come last again behind it.
    """

    name: str
    label: str
    inputs: tuple[int, ...]
    output: int
    weights: int | None = None
    weights_count: int = 0
    zeros: int = 0
    failure: str | None = None
    is_stem: bool = False
    is_inside: bool = False
    is_exit: bool = False


def read_nodes(model: Record, graph: Record) -> list[Node]:
    """The operators of a graph that compute, in their order.

    Those that unpack constants, and padding that a convolution takes up, are no nodes.
    """
    try:
        return list(_Reader(model, graph).nodes())
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            "The file has an operator with inputs or options that cannot be: "
            f"{error}. Export it again."
        ) from error


def weight_values(model: Record, tensor: Record) -> Array | None:
    """The numbers of a constant of floats, where it is sparse without its zeros."""
    if tensor["type"] not in FLOATS or not len(data_of(model, tensor)):
        return None
    if is_plain(model, tensor):
        return values_of(model, tensor)
    data = np.ascontiguousarray(data_of(model, tensor))
    return np.asarray(data.view(TensorType(tensor["type"]).numpy_type))


class _Reader:
    def __init__(self, model: Record, graph: Record) -> None:
        self._model = model
        self._graph = graph
        self._tensors = graph["tensors"]
        self._constants: dict[int, int] = {}  # unpacked tensor -> stored one
        self._pads: dict[int, tuple[int, Array]] = {}
        self._reads: Counter[int] = Counter()
        self._convolved: set[int] = set()  # what comes after a convolution
        for operator in graph["operators"]:
            self._reads.update(int(n) for n in operator["inputs"])
        self._reads.update(int(n) for n in graph["outputs"])

    def nodes(self) -> Iterator[Node]:
        for operator in self._graph["operators"]:
            name = operator_name(self._model, operator)
            inputs = [int(n) for n in operator["inputs"]]
            outputs = [int(n) for n in operator["outputs"]]
            if not outputs:
                continue
            if name in _UNPACKING and self._stored(inputs[0]) is not None:
                self._constants[outputs[0]] = self._constants.get(inputs[0], inputs[0])
            elif name == "PAD" and self._is_taken_up(inputs, outputs[0]):
                pads = values_of(self._model, self._tensors[inputs[1]])
                self._pads[outputs[0]] = (inputs[0], pads.reshape(-1, 2))
            else:
                yield self._node(operator, name, inputs, outputs[0])

    def _node(
        self, operator: Record, name: str, inputs: list[int], output: int
    ) -> Node:
        read = [self._pads[n][0] if n in self._pads else n for n in inputs]
        computed = tuple(n for n in read if n >= 0 and self._stored(n) is None)
        weights = None
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weights = self._stored(inputs[1]) if len(inputs) > 1 else None
        traits = self._traits(operator, name, inputs, weights)
        if name == "CONV_2D" or any(n in self._convolved for n in computed):
            self._convolved.add(output)
        label = self._tensors[weights if weights is not None else output]["name"]
        return Node(
            name=name,
            label=bytes(label).decode(errors="replace").partition(";")[0] or name,
            inputs=computed,
            output=output,
            weights=weights,
            **traits,
        )

    def _traits(
        self, operator: Record, name: str, inputs: list[int], weights: int | None
    ) -> dict[str, Any]:
        if self._counts(operator):
            return {}
        if not self._is_float(operator, weights):
            return {"failure": NOT_FLOAT}
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            return self._convolution(operator, name, inputs, weights)
        if name == "FULLY_CONNECTED":
            if weights is None or len(self._tensors[inputs[0]]["shape"]) > 2:
                return {"failure": "a dense layer on a map of features"}
            return {"is_inside": True}  # XNNPACK does not count its zeros
        if name in sparse_rules.POOLING_OPERATORS:
            return self._pooling(inputs)
        if name == "DEPTH_TO_SPACE":
            return {"is_exit": True}
        return self._elementwise(name, inputs)

    def _convolution(
        self, operator: Record, name: str, inputs: list[int], weights: int | None
    ) -> dict[str, Any]:
        options = operator["builtin_options"]
        if weights is None or options is None:
            return {"failure": "its weights are computed"}
        convolution = self._described(options, name, inputs[0], weights)
        if name == "DEPTHWISE_CONV_2D":
            failure = sparse_rules.depthwise_failure(convolution)
            return {"failure": failure, "is_inside": failure is None}
        if convolution.kernel == (1, 1):
            failure = sparse_rules.pointwise_failure(convolution)
            known = {"failure": failure, "is_inside": failure is None}
            return self._zeros(weights) | known
        failure = sparse_rules.stem_failure(convolution)
        if failure is not None and inputs[0] in self._convolved:
            failure = sparse_rules.ORDINARY_FAILURE
        return {"failure": failure, "is_stem": failure is None}

    def _described(
        self, options: Record, name: str, image: int, weights: int
    ) -> Convolution:
        outputs, height, width, channels = map(int, self._tensors[weights]["shape"])
        image_channels = int(self._tensors[image]["shape"][-1])
        kernel = (height, width)
        strides = (int(options["stride_h"]), int(options["stride_w"]))
        dilation = (
            int(options["dilation_h_factor"]),
            int(options["dilation_w_factor"]),
        )
        padding = (0, 0, 0, 0)
        if options["padding"] == _SAME:
            padding = sparse_rules.same_padding(kernel, strides, dilation)
        if image in self._pads and sparse_rules.OTHER_PADDING not in padding:
            extra = self._pads[image][1][1:3].reshape(-1)
            sums = [int(a + b) for a, b in zip(padding, extra, strict=True)]
            padding = (sums[0], sums[1], sums[2], sums[3])
        is_depthwise = name == "DEPTHWISE_CONV_2D"
        return Convolution(
            kernel=kernel,
            strides=strides,
            padding=padding,
            dilation=dilation,
            groups=1 if is_depthwise else image_channels // max(channels, 1),
            channels=image_channels,
            multiplier=channels // max(image_channels, 1) if is_depthwise else 1,
        )

    def _pooling(self, inputs: list[int]) -> dict[str, Any]:
        """A mean or a sum. XNNPACK takes any axes, and has other ones than these."""
        axes = self._stored(inputs[1])
        shape = self._tensors[inputs[0]]["shape"]
        if axes is None or len(shape) != 4:
            return {"failure": "a pooling of something else than a map of features"}
        found = {int(n) % 4 for n in values_of(self._model, self._tensors[axes]).flat}
        failure = None
        if found != {1, 2}:
            failure = "a pooling over other axes than height and width"
        return {"is_inside": True, "is_exit": True, "failure": failure}

    def _elementwise(self, name: str, inputs: list[int]) -> dict[str, Any]:
        ranks = {len(self._tensors[n]["shape"]) for n in inputs if n >= 0}
        constant = any(self._stored(n) is not None for n in inputs[:2])
        is_binary = name in sparse_rules.BINARY_OPERATORS
        fits = name in sparse_rules.UNARY_OPERATORS or (is_binary and not constant)
        if fits and ranks == {4}:
            return {"is_inside": True}
        if is_binary and constant:
            return {
                "failure": "it has a constant operand; put batch normalization "
                "directly behind a convolution, which takes it up"
            }
        if name == "RESIZE_BILINEAR":
            size = self._tensors[inputs[0]]["shape"][1:3]
            if min(size, default=0) > 1:
                return {"is_inside": True}
        if name.endswith("_POOL_2D"):
            return {
                "failure": "pooling has no kernel with the channels first; use a "
                "depthwise convolution with stride 2"
            }
        return {"failure": f"{name} has no kernel with the channels first"}

    def _counts(self, operator: Record) -> bool:
        """Whether an operator computes shapes."""
        output = self._tensors[int(operator["outputs"][0])]
        return output["type"] in (TensorType.INT32, TensorType.INT64)

    def _is_float(self, operator: Record, weights: int | None) -> bool:
        numbers = [int(n) for n in (*operator["inputs"][:1], *operator["outputs"])]
        types = {self._tensors[n]["type"] for n in numbers if n >= 0}
        known = weights is None or self._tensors[weights]["type"] in FLOATS
        return known and types <= {TensorType.FLOAT32}

    def _zeros(self, weights: int) -> dict[str, Any]:
        tensor = self._tensors[weights]
        values = weight_values(self._model, tensor)
        count = int(np.prod(tensor["shape"]))
        kept = 0 if values is None else int(np.count_nonzero(values))
        return {"weights_count": count, "zeros": count - kept}

    def _stored(self, number: int) -> int | None:
        """The constant behind a tensor."""
        if number < 0:
            return None
        number = self._constants.get(number, number)
        is_constant = len(data_of(self._model, self._tensors[number])) > 0
        return number if is_constant else None

    def _is_taken_up(self, inputs: list[int], output: int) -> bool:
        """Whether the convolution behind a padding takes it up."""
        pads = self._stored(inputs[1])
        if pads is None or self._reads[output] != 1:
            return False
        values = values_of(self._model, self._tensors[pads]).reshape(-1, 2)
        if len(values) != 4 or values[[0, 3]].any():
            return False
        for operator in self._graph["operators"]:
            if int(operator["inputs"][0] if len(operator["inputs"]) else -1) == output:
                name = operator_name(self._model, operator)
                options = operator["builtin_options"]
                if name not in ("CONV_2D", "DEPTHWISE_CONV_2D") or options is None:
                    return False
                plain = (options["stride_h"], options["stride_w"]) == (1, 1)
                return bool(options["padding"] != _SAME or plain)
        return False
