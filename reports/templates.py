"""The jinja2 templates under `templates/`, and the filters that make any text safe in each format."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

FOLDER = Path(__file__).with_name("templates")
Filters = dict[str, Callable[..., Any]]


def rendered(name: str, filters: Filters, autoescape: bool = False, **values: Any) -> str:
    """The template `name` with `values`; a name that the template uses and that is not given is an error.

    Args:
        name: file under `templates/`.
        filters: by name, beside jinja2's.
        autoescape: whether to escape HTML in every value.
        values: what the template shows.
    """
    return _template(name, tuple(filters.items()), autoescape).render(**values)


@lru_cache(maxsize=8)
def _template(name: str, filters: tuple[tuple[str, Callable[..., Any]], ...], autoescape: bool) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters)
    return environment.get_template(name)
