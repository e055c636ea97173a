"""The templates of the self-contained HTML pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def render_page(
    name: str,
    context: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """Fill a template; all text is escaped, and a missing value is an error.

    Args:
        name: File name within `templates`.
        context: Its values.
        filters: Further filters that it uses.

    Returns:
        The page.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("penjing.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(name).render(context)
