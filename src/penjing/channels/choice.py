"""Which groups of channels the user lets be cut."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import keras

from penjing.arguments import did_you_mean, quoted
from penjing.channels.groups import ChannelGroup
from penjing.channels.tracing import ChannelGraph
from penjing.errors import UnsupportedModelError
from penjing.models.selection import Filter


def choose_groups(
    graph: ChannelGraph, include: Filter = None, exclude: Filter = None
) -> list[ChannelGroup]:
    """Find the groups that can be cut and that the user did not exclude.

    Args:
        graph: The channels of a model.
        include: Layers, or patterns matched against layer paths and names. A group is
            taken when one of the layers that make it matches. None: all.
        exclude: What stays whole, in the same form; wins over `include`.

    Returns:
        The groups, in the order of the model.

    Raises:
        UnsupportedModelError: If a named layer is unknown or cannot be cut, or nothing
            is left to cut.
    """
    free = [group for group in graph.groups if group.reason is None]
    skipped = dict(graph.skipped)
    barred = _matched(exclude, "exclude", graph, skipped)
    named = {group.name for group in free}
    if include is not None:
        named = set()
        for entry in _entries(include, "include"):
            hits = _hits(entry, "include", graph, skipped)
            taken = [g for g in free if hits.intersection(g.layers)]
            if not taken:
                raise _uncuttable(entry, hits, graph, skipped)
            named.update(group.name for group in taken)
    chosen = [g for g in free if g.name in named and not barred.intersection(g.layers)]
    if not chosen:
        whole = "; ".join(f"{path}: {why}" for path, why in list(skipped.items())[:5])
        raise UnsupportedModelError(
            f"The model {graph.model.name!r} has no channels that can be cut"
            + (f" and are not excluded. {whole}." if whole else ".")
        )
    return chosen


def _entries(filters: Filter, argument: str) -> Sequence[str | keras.layers.Layer]:
    single = isinstance(filters, str | keras.layers.Layer)
    if single or not isinstance(filters, Iterable):
        filters = (filters,)
    for entry in filters:
        if not isinstance(entry, str | keras.layers.Layer):
            raise ValueError(
                f"`{argument}` takes patterns and layers, got {entry!r} of type "
                f"{type(entry).__name__}."
            )
    return tuple(filters)


def _matched(
    filters: Filter, argument: str, graph: ChannelGraph, skipped: Mapping[str, str]
) -> set[str]:
    if filters is None:
        return set()
    entries = _entries(filters, argument)
    return set().union(*(_hits(e, argument, graph, skipped) for e in entries))


def _hits(
    entry: str | keras.layers.Layer,
    argument: str,
    graph: ChannelGraph,
    skipped: Mapping[str, str],
) -> set[str]:
    """Paths of the layers that one entry names.

    Raises:
        UnsupportedModelError: If there are none.
    """
    paths = {path: None for group in graph.groups for path in group.layers}
    paths.update(dict.fromkeys(skipped))
    pattern = entry if isinstance(entry, str) else entry.name
    found = {path for path in paths if _matches(pattern, path)}
    if isinstance(entry, keras.layers.Layer) and entry.weights:
        own = {variable.path for variable in entry.weights}
        found = {path for path in paths if any(w.startswith(f"{path}/") for w in own)}
    if not found:
        names = [*paths, *(path.rpartition("/")[2] for path in paths)]
        raise UnsupportedModelError(
            f"`{argument}` names {pattern!r}, which matches no layer that makes "
            f"channels.{did_you_mean(pattern, names, cutoff=0.4)} There are "
            f"{quoted(paths, limit=8)}."
        )
    return found


def _matches(pattern: str, path: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (path, *path.split("/")))


def _uncuttable(
    entry: str | keras.layers.Layer,
    hits: set[str],
    graph: ChannelGraph,
    skipped: Mapping[str, str],
) -> UnsupportedModelError:
    reasons = dict(skipped)
    for group in graph.groups:
        for path in group.layers:
            reasons.setdefault(path, group.reason or "it stays whole")
    said = "; ".join(f"{path}: {reasons[path]}" for path in sorted(hits))
    name = entry if isinstance(entry, str) else entry.name
    return UnsupportedModelError(
        f"`include` names {name!r}, whose channels cannot be cut. {said}."
    )
