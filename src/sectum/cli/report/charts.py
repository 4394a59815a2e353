"""The report's charts: shapes as SVG that stretches with the page, text as HTML that does not.

Every function returns HTML in which all text is escaped. A chart has coordinates from 0 to 1000 in both directions,
whatever its size on the screen; labels are placed in per cent of it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sectum.cli.render.figures import milliseconds, number
from sectum.cli.render.untrusted import printable
from sectum.units import KIB, format_bytes

if TYPE_CHECKING:
    from sectum.ort.footprint import Footprint
    from sectum.plan.epc_curve import CurvePoint
    from sectum.predict.prediction import Layer

SPAN = 1000.0
FARTHEST_EPC = 2.5
"""A larger EPC, as a multiple of the memory in use, is only named: drawn to scale it would flatten everything else."""


def text(value: str, *, limit: int = 120) -> str:
    """Escape untrusted text for HTML."""
    return html.escape(printable(value, limit=limit))


def memory_chart(levels: Sequence[Footprint], epc_bytes: int | None) -> str:
    """Draw the memory touched up to each operator, against the EPC."""
    peak = max((level.total_bytes for level in levels), default=1) or 1
    drawn_epc = epc_bytes is not None and epc_bytes <= FARTHEST_EPC * peak
    top = 1.12 * max(peak, epc_bytes if epc_bytes is not None and drawn_epc else 0)
    weights = _steps([level.weight_bytes for level in levels], top)
    everything = _steps([level.total_bytes for level in levels], top)
    shapes = [f'<path class="band-live" d="{everything}"/>', f'<path class="band-weights" d="{weights}"/>']
    labels = list(_y_ticks(_byte_ticks(top), top, format_bytes))
    if epc_bytes is not None and drawn_epc:
        y = SPAN * (1 - epc_bytes / top)
        shapes.insert(0, f'<clipPath id="over"><rect width="{SPAN:g}" height="{y:.1f}"/></clipPath>')
        shapes.append(f'<path class="band-over" clip-path="url(#over)" d="{everything}"/>')
        shapes.append(f'<path class="epc-line" d="M0 {y:.1f}H{SPAN:g}"/>')
        place = f"bottom:{_per_cent(epc_bytes / top)}"
        labels.append(f'<span class="epc-label" style="{place}">EPC {format_bytes(epc_bytes)}</span>')
    elif epc_bytes is not None:
        labels.append(f'<span class="epc-label at-top">&uarr; EPC {format_bytes(epc_bytes)}, far above</span>')
    return _frame("memory", shapes, labels)


def time_chart(layers: Sequence[Layer]) -> str:
    """Draw the time of each operator in the order of execution, by cause."""
    totals = [layer.breakdown_ms.total for layer in layers]
    top = 1.25 * (max(totals, default=0.0) or 1.0)
    width = SPAN / max(1, len(layers))
    gap = 0.14 * width if len(layers) <= 160 else 0.0
    paths: dict[str, list[str]] = {}
    for index, layer in enumerate(layers):
        base = 0.0
        for cause, value in layer.breakdown_ms.by_cause().items():
            if value > 0:
                height = SPAN * value / top
                left, y = index * width + gap / 2, SPAN * (1 - base / top)
                path = f"M{left:.2f} {y:.2f}h{width - gap:.2f}v{-height:.2f}h{gap - width:.2f}z"
                paths.setdefault(cause, []).append(path)
                base += value
    shapes = [f'<path class="{cause}" d="{"".join(path)}"/>' for cause, path in paths.items()]
    labels = list(_y_ticks(_ticks(top, 2), top, milliseconds))
    if layers:
        slowest = totals.index(max(totals))
        left, caption = (slowest + 0.5) / len(layers), text(layers[slowest].name, limit=28)
        labels.append(_flag("slowest-label", left, totals[slowest] / top, f"<bdi>{caption}</bdi>"))
    return _frame("time", shapes, labels)


def curve_chart(
    curve: Sequence[CurvePoint],
    measured: Sequence[CurvePoint],
    here: CurvePoint,
    native_ms: float,
    stops_bytes: int,
) -> str:
    """Draw latency against the EPC size, which is on a logarithmic axis."""
    low, high = math.log2(curve[0].epc_bytes), math.log2(curve[-1].epc_bytes)

    def x(epc_bytes: float) -> float:
        return (math.log2(max(epc_bytes, 1)) - low) / ((high - low) or 1.0)

    top = 1.1 * max(p.high for p in (*curve, *measured, here))
    line = "L".join(f"{SPAN * x(p.epc_bytes):.1f} {SPAN * (1 - p.latency_ms / top):.1f}" for p in curve)
    outline = [(p.epc_bytes, p.high) for p in curve] + [(p.epc_bytes, p.low) for p in reversed(curve)]
    band = "L".join(f"{SPAN * x(size):.1f} {SPAN * (1 - value / top):.1f}" for size, value in outline)
    native = SPAN * (1 - native_ms / top)
    shapes = [
        f'<path class="interval" d="M{band}z"/>',
        f'<path class="native-line" d="M0 {native:.1f}H{SPAN:g}"/>',
        f'<path class="curve" d="M{line}"/>',
    ]
    labels = list(_y_ticks(_ticks(top, 4), top, milliseconds))
    labels += _log_ticks(curve[0].epc_bytes, curve[-1].epc_bytes, x)
    if 0 <= x(stops_bytes) <= 1:
        shapes.append(f'<path class="stops-line" d="M{SPAN * x(stops_bytes):.1f} 0V{SPAN:g}"/>')
        caption = f"paging stops: {format_bytes(stops_bytes, round_up=True)}"
        labels.append(_flag("stops-label", x(stops_bytes), 1.0, caption))
    for point in measured:
        place = f"{_at(x(point.epc_bytes), point.low / top)};height:{_per_cent((point.high - point.low) / top)}"
        labels.append(f'<span class="whisker" style="{place}"></span>')
        labels.append(_dot("measured-dot", x(point.epc_bytes), point.latency_ms / top))
    labels.append(_dot("here-dot", x(here.epc_bytes), here.latency_ms / top))
    caption = f"{format_bytes(here.epc_bytes)}: {milliseconds(here.latency_ms)}"
    labels.append(_flag("here-label", x(here.epc_bytes), here.latency_ms / top, caption))
    return _frame("curve", shapes, labels)


def stacked_bar(split: Mapping[str, float], whole_ms: float) -> str:
    """Draw milliseconds by cause as a horizontal bar; the full width is ``whole_ms``."""
    pieces = (
        f'<i class="{cause}" style="width:{_per_cent(value / whole_ms)}"></i>'
        for cause, value in split.items()
        if value > 0
    )
    return f'<span class="bar" aria-hidden="true">{"".join(pieces)}</span>'


def _frame(kind: str, shapes: Iterable[str], labels: Iterable[str]) -> str:
    return (
        f'<div class="plot {kind}" data-plot="{kind}">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"{''.join(shapes)}</svg>{''.join(labels)}</div>"
    )


def _steps(values: Sequence[float], top: float) -> str:
    """Outline the area under a staircase with one step per operator."""
    width = SPAN / max(1, len(values))
    parts = [f"M0 {SPAN:g}"]
    for index, value in enumerate(values):
        parts.append(f"V{SPAN * (1 - value / top):.1f}H{(index + 1) * width:.2f}")
    return "".join(parts) + f"V{SPAN:g}z"


def _y_ticks(values: Iterable[float], top: float, write: Callable[[float], str]) -> Iterable[str]:
    for value in values:
        yield f'<span class="tick-y" style="bottom:{_per_cent(value / top)}">{write(value)}</span>'


def _ticks(top: float, most: int) -> list[float]:
    """Round numbers from 0 up to just under ``top``, at most ``most`` above 0."""
    rough = top / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    return [step * index for index in range(int(0.97 * top / step) + 1)]


def _byte_ticks(top: float) -> list[float]:
    step = float(KIB)
    while top / step > 5:
        step *= 2
    return [step * index for index in range(int(top / step) + 1)]


def _log_ticks(smallest: int, largest: int, x: Callable[[float], float]) -> Iterable[str]:
    powers = range(math.ceil(math.log2(smallest)), math.floor(math.log2(largest)) + 1)
    every = max(1, math.ceil(len(powers) / 8))
    for index, power in enumerate(powers[::every]):
        size = 1 << power
        thin = " thin" if index % 2 else ""
        thin += " last" if x(size) > 0.95 else ""
        yield f'<span class="tick-x{thin}" style="left:{_per_cent(x(size))}">{format_bytes(size)}</span>'


def _dot(kind: str, left: float, bottom: float) -> str:
    return f'<span class="dot {kind}" style="{_at(left, bottom)}"></span>'


def _flag(kind: str, left: float, bottom: float, caption: str) -> str:
    """Put a label at a point, on the side that has room."""
    side = "to-left" if left > 0.55 else "to-right"
    return f'<span class="flag {kind} {side}" style="{_at(left, bottom)}">{caption}</span>'


def _at(left: float, bottom: float) -> str:
    return f"left:{_per_cent(left)};bottom:{_per_cent(bottom)}"


def _per_cent(share: float) -> str:
    return f"{100 * share:.3f}%"


def short_number(value_ms: float) -> str:
    """Write a time for a table whose header names the unit."""
    return "" if value_ms == 0 else number(value_ms)
