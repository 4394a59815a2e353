"""Pictures as PNG files."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.render.output import make_folder, write_file
from sectum.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 130


def plot(picture: Callable[[Axes], None]) -> Callable[[Figure], None]:
    """Make a picture from a function that draws a single plot."""
    return lambda figure: picture(figure.add_subplot())


def draw_all(pictures: Mapping[str, Callable[[Figure], None]], folder: Path) -> list[Path]:
    """Draw pictures as PNG files into a folder, which is made if necessary; returns their paths.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """
    figures = require("matplotlib.figure", "pictures are drawn by matplotlib", "train")
    make_folder(folder)
    drawn = []
    for name, picture in pictures.items():
        figure = figures.Figure(figsize=(8, 5), layout="constrained")
        picture(figure)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        write_file(folder / f"{name}.png", png(figure))
        drawn.append(folder / f"{name}.png")
    return drawn


def png(figure: Figure) -> bytes:
    """A picture as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return content.getvalue()
