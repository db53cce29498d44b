"""Plots as SVG that lies inside the page: its text in the page's font, its colours those of the page's scheme.

A figure is drawn in pixels of the page. Matplotlib writes a file that stands alone; several of them in one
document would share ids and style sheets, and know nothing of a dark scheme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLORS: Mapping[str, str] = {
    "ink": "#1d1d22",
    "soft": "#63636e",
    "line": "#d9d9d6",
    "ours": "#1f5fbf",
    "theirs": "#b4500f",
    "band": "#dcefe2",
    "s1": "#0b67b2",
    "s2": "#c2410d",
    "s3": "#0f7f5f",
    "s4": "#9a3fa8",
    "s5": "#8a6a00",
    "s6": "#d02670",
    "s7": "#4d5bd1",
    "s8": "#5f6b3a",
}
"""Role to its colour in the light scheme; the style sheet has both schemes. No two are the same."""
SERIES = tuple(COLORS[f"s{i}"] for i in range(1, 9))
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
"""Line styles: a series is told by its style, too, not by its colour alone."""

_ROLES = {color: role for role, color in COLORS.items()}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"#([\w-]+)")
_COLOR = re.compile(r"#[0-9a-f]{6}\b")
# The names of settings are a type of Matplotlib's own, of 400 literals.
_SETTINGS: Any = {
    "svg.fonttype": "none",
    # Ids follow from it; without it they are drawn by chance.
    "svg.hashsalt": "maskrcnn-repro",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.facecolor": "none",
    "axes.edgecolor": COLORS["soft"],
    "axes.labelcolor": COLORS["soft"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlecolor": COLORS["ink"],
    "axes.titlelocation": "left",
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.8,
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["soft"],
    "ytick.color": COLORS["soft"],
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}


def style() -> Any:
    """Return a context in which figures are made and written."""
    return matplotlib.rc_context(_SETTINGS)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in pixels, without any of pyplot's global state."""
    # At 72 dots an inch Matplotlib's points are pixels of the page: letters and lines have the sizes given.
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_alpha(0)
    return figure


def whole_axes(figure: Figure) -> Axes:
    """Return bare axes that fill the figure."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return axes


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """Return the figure as an SVG element for an HTML page.

    Args:
        figure: made within :func:`style`.
        name: prefix of ids, unique within the page.
        label: what it shows, for those who do not see it.
    """
    file = io.BytesIO()
    # No date in it: the same figure gives the same bytes.
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for node in root.iter():
        for child in list(node):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                node.remove(child)
    _rename_ids(root, name)
    for node in root.iter():
        if "style" in node.attrib:
            node.set("style", _COLOR.sub(_scheme_color, node.attrib["style"]))
    # As the style sheet that was removed had it.
    root.set("stroke-linejoin", "round")
    _, _, width, height = root.attrib["viewBox"].split()
    root.set("width", width)
    root.set("height", height)
    root.set("role", "img")
    root.set("aria-label", label)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    text = ElementTree.tostring(root, encoding="unicode")
    return Markup(re.sub(r">\s+<", "><", text))


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Prefix the ids that something refers to, and drop the others."""
    used = {
        match
        for node in root.iter()
        for value in node.attrib.values()
        if "url(" in value or value.startswith("#")
        for match in _REFERENCE.findall(value)
    }
    for node in root.iter():
        own = node.attrib.pop("id", None)
        if own in used:
            node.set("id", f"{name}-{own}")
        for key, value in node.attrib.items():
            if key == _XLINK or "url(" in value:
                node.set(key, value.replace("#", f"#{name}-"))


def _scheme_color(match: re.Match[str]) -> str:
    color = match.group()
    return f"var(--{_ROLES[color]})" if color in _ROLES else color
