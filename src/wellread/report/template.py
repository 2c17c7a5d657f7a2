"""What every page is made with: templates that refuse what is not given, and the style in them."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2


def environment(folder: Path) -> jinja2.Environment:
    """For the templates in a folder."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def style() -> str:
    """The style sheet, without its indentation."""
    return re.sub(r"\s*\n\s*", "\n", Path(__file__).with_name("style.css").read_text("utf-8"))
