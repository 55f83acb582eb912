"""One frame and one stylesheet for every HTML page of the project: self-contained, escaped, readable at 390 pixels."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["Markup", "Picture", "Section", "Table", "page", "template"]


@dataclass(frozen=True)
class Table:
    """Rows of cells: Markup goes in as it is, everything else escaped. left: all columns are text; summary: folded
    away behind it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    left: bool = False
    summary: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG: its bytes, kept in the page, or the name of a file beside it."""

    name: str
    content: bytes | str

    @property
    def source(self) -> str:
        """What stands behind src."""
        if isinstance(self.content, str):
            return self.content
        return f"data:image/png;base64,{base64.b64encode(self.content).decode()}"


Part = str | Table | Picture  # a str is a paragraph, a Markup goes in as it is


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Part]


@cache
def _templates(package: str) -> Environment:
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def template(package: str, name: str, **values: object) -> Markup:
    """A template that lies in a package's folder, filled in."""
    return Markup(_templates(package).get_template(name).render(**values))


def page(
    title: str, parts: Sequence[Part], sections: Sequence[Section], heading: str = "", script: Markup | None = None
) -> str:
    """The whole file; nothing in it is fetched, and there is a script only where one is given."""
    values = {"parts": parts, "sections": sections, "heading": heading or title, "script": script}
    return template("converter.commands", "page.html.j2", title=title, **values)
