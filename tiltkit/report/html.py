"""Self-contained HTML pages: templates, and pictures as data URIs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "png_address", "render", "svg"]

# Text colour of figures; `svg` replaces it by the page's own, for light and dark pages.
INK = "#010203"


def render(template: str, **values: Any) -> str:
    """Render a template of this package; an undefined variable is an error.

    Args:
        template: File name in ``tiltkit/report/templates``.
        values: Values by their names in the template; text in them is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tiltkit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(values)


def png_address(png: bytes) -> str:
    """Return the content of a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element with the font and text colour of the page."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tiltkit"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
