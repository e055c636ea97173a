"""Former place of `penjing.data.data_sources`; it goes with the next version."""

import warnings
from typing import Any

from penjing.data import data_sources as _present


def __getattr__(name: str) -> Any:
    value = getattr(_present, name)
    warnings.warn(
        f"{__name__}.{name} is now {_present.__name__}.{name}.",
        DeprecationWarning,
        stacklevel=2,
    )
    return value
