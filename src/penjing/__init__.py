"""Make trained Keras 3 models small and fast, and prove what it cost.

Nothing is loaded before it is used; Keras neither, so that its backend can be chosen
until then. Where Keras is loaded, whoever loads it, the classes of penjing that a saved
model may hold are registered with it.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from penjing.import_hook import when_imported
from penjing.version import __version__ as __version__

if TYPE_CHECKING:
    from penjing import tfmot as tfmot
    from penjing.budget.compression import compress as compress
    from penjing.public_names import *  # noqa: F403
    from penjing.public_names import __all__ as __all__

# Names that have a place of their own: `public_names` loads Keras, and most of these
# need none.
_PLACES = {
    "Budget": "penjing.budget.budget",
    "CExport": "penjing.firmware.c_export",
    "VerifyReport": "penjing.proof.verify_report",
    "compress": "penjing.budget.compression",
    "export_c": "penjing.firmware.c_export",
    "verify": "penjing.file_verification",
}

# Rooms under the registered classes. Their modules import Keras before they are whole,
# and then each other: so all are loaded before the first that is asked for.
_ROOMS = (
    "penjing.engine",
    "penjing.models",
    "penjing.numerics",
    "penjing.sparse",
    "penjing.tfmot",
)


def _register_classes() -> None:
    if "penjing.registered_classes" not in sys.modules:  # else it is being imported
        importlib.import_module("penjing.registered_classes")
        importlib.import_module("penjing.tfmot")


when_imported({"keras", *_ROOMS}, _register_classes)

if not TYPE_CHECKING:  # else every name would be one of penjing to type checkers

    def __getattr__(name: str) -> Any:
        """Load what a program uses; an AttributeError if penjing has no such name."""
        if name == "tfmot":
            return importlib.import_module("penjing.tfmot")
        if name in _PLACES:
            return getattr(importlib.import_module(_PLACES[name]), name)
        if name == "__all__" or not name.startswith("_"):
            public = importlib.import_module("penjing.public_names")
            if name == "__all__" or name in public.__all__:
                return getattr(public, name)
            if name in globals():  # a room, loaded by now
                return globals()[name]
        raise AttributeError(f"module 'penjing' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__"), "compress", "tfmot"})
