"""Which groups of channels the user lets be cut."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import keras

from penjing.arguments import did_you_mean, quoted
from penjing.channels.groups import ChannelGroup
from penjing.channels.tracing import ChannelGraph
from penjing.errors import UnsupportedModelError
from penjing.models.selection import Entry, Filter, entry_name, filter_entries

_ONE_OF_CLASS = re.compile(r"'[^']*' of class (\w+)")
_ROOTS, _NAMED = 5, 3


def choose_groups(
    graph: ChannelGraph, include: Filter = None, exclude: Filter = None
) -> list[ChannelGroup]:
    """Find the groups that can be cut and that the user did not exclude.

    A group is taken when one of the layers that make it matches. `exclude` wins.
    """
    free = [group for group in graph.groups if group.reason is None]
    barred = {
        path
        for entry in filter_entries(exclude, "exclude")
        for path in _hits(entry, "exclude", graph)
    }
    named = {group.name for group in free}
    if include is not None:
        named = set()
        for entry in filter_entries(include, "include"):
            hits = _hits(entry, "include", graph)
            taken = [g for g in free if hits.intersection(g.layers)]
            if not taken:
                raise _uncuttable(entry, hits, graph)
            named.update(group.name for group in taken)
    chosen = [g for g in free if g.name in named and not barred.intersection(g.layers)]
    if not chosen:
        whole = _roots(graph.skipped)
        raise UnsupportedModelError(
            f"The model {graph.model.name!r} has no channels that can be cut"
            + (f" and are not excluded. {whole}." if whole else ".")
        )
    return chosen


def _roots(skipped: Sequence[tuple[str, str]]) -> str:
    """Why layers stay whole, each reason once, with the first layers that it keeps.

    What is said of several layers of a class is one reason.
    """
    found: dict[str, dict[str, str]] = {}
    for path, reason in skipped:
        root = _ONE_OF_CLASS.sub(r"each of class \1", reason)
        found.setdefault(root, {})[path] = reason
    said = []
    for root, reasons in list(found.items())[:_ROOTS]:
        paths = list(reasons)
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        same = set(reasons.values())
        why = same.pop() if len(same) == 1 else root
        said.append(f"{', '.join(paths[:_NAMED])}{more}: {why}")
    return "; ".join(said)


def _hits(entry: Entry, argument: str, graph: ChannelGraph) -> set[str]:
    """Paths of the layers that one entry names; it is refused where there are none."""
    made = [path for group in graph.groups for path in group.layers]
    paths = dict.fromkeys([*made, *dict(graph.skipped)])
    pattern = entry_name(entry)
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
    entry: Entry, hits: set[str], graph: ChannelGraph
) -> UnsupportedModelError:
    reasons = dict(graph.skipped)
    for group in graph.groups:
        for path in group.layers:
            reasons.setdefault(path, group.reason or "it stays whole")
    said = "; ".join(f"{path}: {reasons[path]}" for path in sorted(hits))
    name = entry_name(entry)
    return UnsupportedModelError(
        f"`include` names {name!r}, whose channels cannot be cut. {said}."
    )
