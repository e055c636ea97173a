"""A plan of trained ranges in which some layers run in float all the same."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence

import keras

from penjing.arguments import did_you_mean, quoted
from penjing.engine.activations.activation_plan import ActivationPlan, Site
from penjing.errors import UnsupportedModelError
from penjing.models.graph_flow import Call, trace_flow

_NAMED = "`float_layers` names it"


def plan_in_float(
    plan: ActivationPlan, model: keras.Model, entries: Sequence[str]
) -> ActivationPlan:
    """The plan with the named layers in float; what others read stays rounded.

    `model` is the graph that was planned. An entry is a layer's name, its path, or that
    of a model around it, or a pattern that matches one of these. One that matches
    nothing is an UnsupportedModelError.
    """
    flow = trace_flow(model)
    calls = [] if flow is None or not entries else flow.calls
    names = {call.source: _names(call) for call in calls}
    _check_used(entries, [name for own in names.values() for name in own])
    floats = {
        source
        for source, own in names.items()
        if any(_matches(entry, name) for entry in entries for name in own)
    }
    if flow is None or not floats:
        return plan
    readers = flow.consumers()
    # A tensor that nothing in integers reads is not rounded where floats give it.
    free = {
        source
        for source in floats
        if all(call.source in floats for call in readers.get(source, ()))
    }
    ends = zip(flow.outputs, plan.outputs, strict=True)
    return dataclasses.replace(
        plan,
        sites=[
            _in_float(site, rounds=site.source not in free)
            if site.source in floats
            else site
            for site in plan.sites
        ],
        outputs=tuple(None if name in free else group for name, group in ends),
        in_float={**dict(plan.in_float), **dict.fromkeys(sorted(floats), _NAMED)},
    )


def _in_float(site: Site, *, rounds: bool) -> Site:
    return Site(
        operation=site.operation,
        source=site.source,
        output=site.output if rounds else None,
    )


def _names(call: Call) -> list[str]:
    """All that a layer answers to: its path, those of models around it, their names."""
    parts = call.source.split(":")[0].split("/")
    around = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    return list(dict.fromkeys([*around, *parts]))


def _matches(entry: str, name: str) -> bool:
    return entry == name or fnmatch.fnmatchcase(name, entry)


def _check_used(entries: Sequence[str], known: Sequence[str]) -> None:
    for entry in entries:
        if not any(_matches(entry, name) for name in known):
            raise UnsupportedModelError(
                f"`float_layers` names {entry!r}, but no layer whose activations were "
                f"trained is called so.{did_you_mean(entry, known)} There are "
                f"{quoted(dict.fromkeys(known), limit=8)}."
            )
