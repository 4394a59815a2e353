"""Pictures as PNG files."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.render.output import write_file
from sectum.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 130


def plot(picture: Callable[[Axes], None]) -> Callable[[Figure], None]:
    """Make a picture of a single plot, which draws itself."""
    return lambda figure: picture(figure.add_subplot())


def draw_all(pictures: Mapping[str, Callable[[Figure], None]], folder: Path) -> list[Path]:
    """Draw pictures into a folder, which is made if it is not there; returns their paths.

    Args:
        pictures: by the name of the file without its ending; each draws itself.
        folder: to write to.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures are drawn by matplotlib: pip install 'sectum[train]'") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror or error}; name another folder") from error
    drawn = []
    for name, picture in pictures.items():
        figure = Figure(figsize=(8, 5), layout="constrained")
        picture(figure)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
        write_file(folder / f"{name}.png", content.getvalue())
        drawn.append(folder / f"{name}.png")
    return drawn
