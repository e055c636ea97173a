"""Compiles `.tflite` files for Ethos-U in a process of its own; see `worker_process`.

It is a script that imports neither Keras nor penjing.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from pathlib import Path
from typing import Any

_OPERATORS = re.compile(r"(CPU|NPU) operators = (\d+)")


class Worker:
    """What it is asked for: `estimate`."""

    def estimate(self, file: str, folder: str, processor: str) -> dict[str, Any]:
        """Compile a file; gives Vela's table and the operators on either processor."""
        from ethosu.vela.vela import main

        said = io.StringIO()
        options = [f"--output-dir={folder}", f"--accelerator-config={processor}"]
        try:
            with contextlib.redirect_stdout(said):
                main([file, *options])
        except SystemExit as error:
            raise RuntimeError(said.getvalue()[-1000:] or str(error)) from error
        (table,) = Path(folder).glob("*summary*.csv")
        with open(table, newline="", encoding="utf-8") as lines:
            (row,) = csv.DictReader(lines)
        counts = _OPERATORS.findall(said.getvalue())
        return {"table": row, "operators": {kind: int(n) for kind, n in counts}}
