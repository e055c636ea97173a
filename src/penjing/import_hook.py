"""Something that runs as soon as a module is imported, whoever imports it."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import itertools
import sys
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any


def when_imported(names: Collection[str], then: Callable[[], object]) -> None:
    """Call a function once a module of these is there, at once if one is already.

    It is called once, inside the import, before the importer goes on. Where it raises,
    the import fails, and the next one calls it again. `names` are full names of
    modules; the function may import them itself.
    """
    if any(name in sys.modules for name in names):
        then()
    else:
        sys.meta_path.insert(0, _Finder(frozenset(names), then))


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find a module, and its loader tell when it is there."""

    def __init__(self, names: Collection[str], then: Callable[[], object]) -> None:
        self._names, self._then = names, then
        self._running = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._names:
            return None
        later = list(itertools.dropwhile(lambda one: one is not self, sys.meta_path))
        specs = (finder.find_spec(name, path, target) for finder in later[1:])
        spec = next((found for found in specs if found is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._tell)
        return spec

    def _tell(self) -> None:
        if self._running or self not in sys.meta_path:
            return
        self._running = True
        try:
            self._then()
        finally:
            self._running = False
        with contextlib.suppress(ValueError):  # another thread was here
            sys.meta_path.remove(self)


class _Loader(importlib.abc.Loader):
    """Loads a module as its own loader does, which it puts back first."""

    def __init__(self, loader: Any, then: Callable[[], object]) -> None:
        self._loader, self._then = loader, then

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
