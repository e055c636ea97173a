"""A `.tflite` file on its way through edits: read once, written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from penjing.tflite.layer_names import LayerScopes
from penjing.tflite.loading import load_records
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records

Result = TypeVar("Result")


class EditedFile:
    """Bytes of a file, and its tables once they are asked for; each follows the other.

    `where` is what messages call it. `notes` are sentences for users: what is to be
    said of it though it is right. `scopes` say which layers of a model that was
    converted its operators are of, and `float_layers` which of them were found to stay
    in float. `layer_errors` are the errors of outputs, in spreads, with one layer alone
    in integers, where they were measured.

    Example:
        >>> file = EditedFile(content, "the file")  # doctest: +SKIP
        >>> file.edit(drop_names)  # doctest: +SKIP
        >>> smaller = file.content  # doctest: +SKIP
    """

    def __init__(self, content: bytes, where: str) -> None:
        self._content: bytes | None = content
        self._model: Record | None = None
        self.where = where
        self.notes: list[str] = []
        self.scopes = LayerScopes()
        self.float_layers: tuple[str, ...] = ()
        self.layer_errors: dict[str, float] = {}

    @property
    def model(self) -> Record:
        """The table of the model, to be read; `edit` changes it.

        A file that is corrupt, or holds what this version does not know, is a
        FileFormatError.
        """
        if self._model is None:
            self._model = load_records(self._content or b"", self.where)
        return self._model

    @property
    def content(self) -> bytes:
        """The bytes: those given as long as nothing is changed, else written anew."""
        if self._content is None:
            self._content = write_records(self.model)
        return self._content

    def edit(self, change: Callable[[Record], Result]) -> Result:
        """Let a function change the model's table in place, and give what it gives.

        Where that is False it has changed nothing.
        """
        result = change(self.model)
        if result is not False:
            self._content = None
        return result

    def replace(self, model: Record, content: bytes) -> None:
        """Put another file, its model's table and its bytes, in place of this one."""
        self._model, self._content = model, content
