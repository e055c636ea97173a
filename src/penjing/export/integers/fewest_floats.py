"""The fewest layers in float with which a file of integers is as exact as it must be.

Where noise comes in says which tensors are to blame, but not how much of it the outputs
will show. So tensors are ranked by it, files are made with more and more of them in
float and judged by their outputs, and then the layers that this takes are tried
without, those with large weights first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from penjing.errors import ExportError
from penjing.export.integers.compared_tensors import ComparedTensor
from penjing.tflite.edited_file import EditedFile

_LEAST_SHARE = 0.01
_MOST_LOOKS = 4  # at the noise in a file
_MOST_REMOVALS = 16  # files that are made to see whether a layer is needed

Make: TypeAlias = Callable[[Sequence[str]], EditedFile]
Judge: TypeAlias = Callable[[EditedFile], None]
Compare: TypeAlias = Callable[[EditedFile], list[ComparedTensor]]


def fewest_floats(
    make: Make, judge: Judge, compare: Compare, costs: Mapping[str, int]
) -> EditedFile:
    """Find the file with the fewest layers in float that passes.

    Args:
        make: Makes the file with some layers in float.
        judge: Raises an ExportError where a file's outputs are off.
        compare: Compares the tensors of a file with those of its float twin.
        costs: Bytes that the weights of a layer take more in float.

    Returns:
        The file; its `float_layers` say which. Where none passes, the one with all of
        the tensors that add noise in float, for others to judge.
    """
    tried: dict[frozenset[str], EditedFile | None] = {}

    def passing(names: Sequence[str]) -> EditedFile | None:
        key = frozenset(names)
        if key not in tried:
            file = make(names)
            try:
                judge(file)
                tried[key] = file
            except ExportError:
                tried[key] = None
        return tried[key]

    plain = make(())
    try:
        judge(plain)
        return plain
    except ExportError:
        file = plain
    noisy: list[ComparedTensor] = []
    needed = None
    for _ in range(_MOST_LOOKS):
        found = _best_first(noisiest_tensors(compare(file)), costs)
        known = set(_layers_around(noisy))
        more = [row for row in found if not known.issuperset(_layers_around([row]))]
        noisy += more
        needed = _fewest_first(noisy, passing) if more else None
        if needed is not None or not more:
            break
        # Noise that came in before hides what comes in behind: look again without.
        file = make(_layers_around(noisy))
    if needed is None:
        return file
    heaviest = sorted(needed, key=lambda name: -costs.get(name, 0))
    return passing(_without_needless(heaviest, passing)) or file


def noisiest_tensors(rows: Sequence[ComparedTensor]) -> list[ComparedTensor]:
    """The tensors in which noise came in, most of it first; inputs and weights apart.

    No layer can stay in float for those alone.
    """
    computed = [r for r in rows if not r.is_weight and r.operator != "input"]
    return sorted((r for r in computed if r.added > 0), key=lambda row: -row.added)


def noisiest_layers(rows: Sequence[ComparedTensor]) -> list[ComparedTensor]:
    """Of each layer the tensor in which most noise came in, the worst layer first."""
    worst: dict[str, ComparedTensor] = {}
    for row in noisiest_tensors(rows):
        worst.setdefault(row.layer, row)
    return list(worst.values())


def _best_first(
    noisy: Sequence[ComparedTensor], costs: Mapping[str, int]
) -> list[ComparedTensor]:
    """Tensors by the noise that they add for what it takes to have them in float.

    That is a share of all weights; what takes next to none counts as a hundredth.
    """
    total = max(sum(costs.values()), 1)

    def worth(row: ComparedTensor) -> float:
        bytes_more = sum(costs.get(name, 0) for name in _layers_around([row]))
        return row.added / (bytes_more / total + _LEAST_SHARE)

    return sorted(noisy, key=worth, reverse=True)


def _layers_around(tensors: Sequence[ComparedTensor]) -> list[str]:
    """The layers that must be in float for tensors to be."""
    names = [name for row in tensors for name in (row.layer, *row.readers)]
    return list(dict.fromkeys(names))


def _fewest_first(
    noisy: Sequence[ComparedTensor],
    passing: Callable[[Sequence[str]], EditedFile | None],
) -> list[str] | None:
    """The layers around the first tensors that it takes; None if all do not do.

    The number is doubled until it is enough, as few mostly are, and then halved in.
    """
    count = 1
    while count < len(noisy) and passing(_layers_around(noisy[:count])) is None:
        count *= 2
    count = min(count, len(noisy))
    if not noisy or passing(_layers_around(noisy[:count])) is None:
        return None
    low, high = count // 2, count  # the first is not enough, the second is
    while high - low > 1:
        middle = (low + high) // 2
        fails = passing(_layers_around(noisy[:middle])) is None
        low, high = (middle, high) if fails else (low, middle)
    return _layers_around(noisy[:high])


def _without_needless(
    layers: Sequence[str], passing: Callable[[Sequence[str]], EditedFile | None]
) -> list[str]:
    """Leave out what the file passes without, large parts of it first."""
    kept = list(layers)
    size, tries = (len(kept) + 1) // 2, 0
    while size and tries < _MOST_REMOVALS:
        start = 0
        while start < len(kept) and tries < _MOST_REMOVALS:
            rest = kept[:start] + kept[start + size :]
            tries += bool(rest)
            if rest and passing(rest) is not None:
                kept = rest
            else:
                start += size
        size //= 2
    return kept
