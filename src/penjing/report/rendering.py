"""Filling templates: all text is escaped, and a missing value is an error."""

from __future__ import annotations

from typing import Any

from penjing.measurement.size import format_bytes
from penjing.report.charts import time_text
from penjing.report.documents import signed
from penjing.report.search_rows import ControlRow
from penjing.version import __version__


def render(name: str, **context: Any) -> str:
    """Fill a template of this package."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("penjing.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    # Headings that stand above numbers, as `table_section` takes them.
    environment.globals["numbers"] = lambda headings: [f">{text}" for text in headings]
    return environment.get_template(name).render(**context, version=__version__)


def _width(part: float, whole: float) -> float:
    """Percent that a bar takes; the shortest can still be seen."""
    return round(max(100 * part / whole, 0.3), 2)


def _duration(seconds: float) -> str:
    """A time of minutes, for people.

    Example:
        >>> _duration(42), _duration(840)
        ('42 s', '14 min')
    """
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _effort(row: ControlRow) -> str:
    """How long a model was trained."""
    parts = []
    if row.epochs is not None:
        parts.append(f"{row.epochs:g} epochs")
    if row.steps is not None:
        parts.append(f"{row.steps:,} steps")
    return ", ".join(parts)


_FILTERS = {
    "bytes": format_bytes,
    "duration": _duration,
    "effort": _effort,
    "number": "{:,}".format,
    "percent": lambda share: f"{100 * share:.1f} %",
    "score": "{:.4f}".format,
    "signed": signed,
    "time": time_text,
    "width": _width,
}
