"""Scales and zero points in their smallest form that the runtime accepts."""

from __future__ import annotations

from collections.abc import Callable

from penjing.export.finishing.records import Record

# A change to one tensor, which finds it again in any copy of the model.
Edit = Callable[[Record], None]


def equal_scale_edits(model: Record) -> list[Edit]:
    """One scale where all channels have the same; each edit concerns one tensor."""
    return [
        _edit(g, t)
        for g, graph in enumerate(model["subgraphs"])
        for t, tensor in enumerate(graph["tensors"])
        if tensor["quantization"] and _all_equal(tensor["quantization"])
    ]


def _all_equal(quantization: Record) -> bool:
    scales, points = quantization["scale"], quantization["zero_point"]
    return bool(
        len(scales) > 1
        and len(scales) == len(points)
        and not quantization["details"]
        and (scales == scales[0]).all()
        and (points == points[0]).all()
    )


def _edit(graph: int, tensor: int) -> Edit:
    def keep_first(model: Record) -> None:
        quantization = model["subgraphs"][graph]["tensors"][tensor]["quantization"]
        for name in ("scale", "zero_point"):
            quantization[name] = quantization[name][:1]
        quantization.drop("quantized_dimension", "min", "max")

    return keep_first
