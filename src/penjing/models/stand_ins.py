"""Objects that stand for a layer in one call, with some attributes of their own."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

Owner = TypeVar("Owner")
_SLOT = "_own_attributes"


def stand_in(owner: Owner, **attributes: Any) -> Owner:
    """An object that is `owner` in all but the given attributes and methods.

    The two share what they hold: what one sets the other has, but for the given
    attributes, which are seen by those alone who have the stand-in. So a call can run
    otherwise than the layer does, while other threads use the layer.

    Example:
        >>> import keras
        >>> layer = keras.layers.Activation("relu")
        >>> other = stand_in(layer, activation=abs)
        >>> other.trainable = False
        >>> float(layer.activation(-1.0)), other.activation(-1.0), layer.trainable
        (0.0, 1.0, False)
    """
    earlier = vars(type(owner)).get(_SLOT)
    if earlier is not None:  # it is a stand-in itself
        attributes = {**earlier.__get__(owner), **attributes}
        cls = type(owner).__mro__[1]
    else:
        cls = type(owner)
    made = object.__new__(_class_of(cls, tuple(sorted(attributes))))
    object.__setattr__(made, "__dict__", vars(owner))
    object.__setattr__(made, _SLOT, attributes)
    return made  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=1024)
def _class_of(cls: type, names: tuple[str, ...]) -> Any:
    """A subclass whose properties come before what objects hold in `__dict__`."""

    def own(name: str) -> property:
        return property(
            lambda self: getattr(self, _SLOT)[name],
            lambda self, value: getattr(self, _SLOT).update({name: value}),
        )

    namespace: dict[str, Any] = {name: own(name) for name in names}
    for name in ("__module__", "__qualname__", "__doc__"):
        namespace[name] = getattr(cls, name)
    # The class that the owner has, for code that makes another of it or names it.
    namespace["__class__"] = property(lambda self: cls)
    namespace["__slots__"] = (_SLOT,)
    return type(cls)(cls.__name__, (cls,), namespace)
