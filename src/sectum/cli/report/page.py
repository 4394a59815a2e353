"""The report's page: a single HTML file with its own style, drawings and script. It loads nothing.

Names in it come from an untrusted model. All of them are escaped; the script's data is JSON without angle brackets;
the script sets text, never markup; and a content security policy allows only that script, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.predict.verdict import SLOWER, verdict
from sectum.cli.render.figures import count, interval, join_units, milliseconds, number, percent, plural, times
from sectum.cli.render.layers import kind
from sectum.cli.render.untrusted import printable
from sectum.cli.report.charts import (
    curve_chart,
    memory_chart,
    short_number,
    stacked_bar,
    text,
    time_chart,
)
from sectum.cli.report.plan_section import plan_section
from sectum.cli.report.sections import (
    advice_cards,
    insight_costs,
    insight_curve,
    insight_memory,
    measured_sentence,
    notes,
    numbers,
    provenance,
)
from sectum.plan.epc_curve import CurvePoint
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.cli.report.findings import Findings, MeasuredPoint
    from sectum.ort.footprint import Footprint
    from sectum.predict.prediction import Breakdown, Layer

SHOWN_ROWS = 12
MOST_ROWS = 1500
"""Rows in the table of costs: the cheapest operators of a larger network are summed in one row."""

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_CAUSES = {"compute": "compute", "memory": "slower memory in the enclave", "paging": "paging"}


def page(findings: Findings) -> str:
    """Make the page as HTML."""
    script = _asset("report_page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
        "style": _asset("report_page.css"),
        "script": script,
        **_content(findings),
    }
    # One pass over the template: inserted text is never searched for placeholders.
    return _PLACEHOLDER.sub(lambda match: values[match[1]], _asset("report_page.html"))


def _asset(name: str) -> str:
    return (resources.files("sectum.cli.report") / "assets" / name).read_text(encoding="utf-8")


def _content(findings: Findings) -> dict[str, str]:
    prediction, levels = findings.prediction, findings.footprints
    layers, split = prediction.layers, prediction.breakdown_ms
    return {
        "title": text(f"{prediction.model} in {prediction.enclave}: Sectum"),
        "verdict": text(join_units(verdict(prediction)), limit=600),
        "subject": _subject(findings),
        "measured": measured_sentence(findings),
        "state": "pages" if prediction.overcommit.predicted else "fits",
        "time_bar": stacked_bar(split.by_cause(), split.total or 1.0),
        "time_legend": _time_legend(split),
        "tiles": _tiles(findings),
        "memory_insight": insight_memory(findings),
        "memory_legend": _memory_legend(findings),
        "memory_chart": memory_chart(levels, prediction.memory.epc_bytes),
        "time_chart": time_chart(layers),
        "memory_table": _memory_table(layers, levels),
        "costs_insight": insight_costs(prediction),
        "cost_rows": _cost_rows(layers),
        "cost_count": count(min(len(layers), MOST_ROWS)),
        "curve_section": _curve_section(findings),
        "plan_section": plan_section(findings),
        "advice": advice_cards(findings),
        "facts": numbers(findings),
        "provenance": provenance(findings),
        "notes": notes(prediction),
        "data": _script_json(_data(findings)),
        "version": text(__version__),
        "made_at": text(findings.made_at),
    }


def _subject(findings: Findings) -> str:
    prediction = findings.prediction
    parts = (
        f"<bdi>{text(findings.label, limit=80)}</bdi>",
        text(prediction.enclave),
        f"batch {prediction.batch:,}",
        plural(prediction.threads, "thread"),
    )
    return " &middot; ".join(parts)


def _time_legend(split: Breakdown) -> str:
    return "".join(
        f'<li><i class="key {cause}"></i><b>{milliseconds(value)}</b> {_CAUSES[cause]}'
        f' <span class="quiet">{percent(value / split.total)}</span></li>'
        for cause, value in split.by_cause().items()
        if value > 0
    )


def _memory_legend(findings: Findings) -> str:
    shown = [("band-weights", "weights"), ("band-live", "activations")]
    epc_bytes = findings.prediction.memory.epc_bytes
    if epc_bytes is not None and any(level.total_bytes > epc_bytes for level in findings.footprints):
        shown.append(("band-over", "over the EPC"))
    return "".join(f' <span><i class="key {band}"></i> {meaning}</span>' for band, meaning in shown)


def _tiles(findings: Findings) -> str:
    prediction, memory = findings.prediction, findings.prediction.memory
    ratio = prediction.latency_ms / prediction.native_ms if prediction.native_ms > 0 else 1.0
    slower = f"{times(ratio)} faster than in the enclave" if ratio >= SLOWER else "about as fast as in the enclave"
    inside = next((m for m in findings.measured if m.epc_bytes is not None), None)
    outside = next((m for m in findings.measured if m.epc_bytes is None), None)
    span = interval(prediction.interval_ms)
    limit = "no limit" if memory.epc_bytes is None else f"the EPC holds {format_bytes(memory.epc_bytes)}"
    loads = None if inside is None or inside.measurement.loads is None else count(inside.measurement.loads)
    native = milliseconds(prediction.native_ms)
    return "".join(
        [
            _tile("latency", milliseconds(prediction.latency_ms), "predicted", span, _measured_ms(inside)),
            _tile("outside an enclave", native, prediction.native_source, slower, _measured_ms(outside)),
            _tile("working set", format_bytes(memory.working_set_bytes), "predicted", limit, None),
            _tile("page loads per inference", count(memory.loads), "predicted", "4 KiB each", loads),
        ]
    )


def _measured_ms(point: MeasuredPoint | None) -> str | None:
    return None if point is None else milliseconds(point.measurement.latency_ms)


def _tile(label: str, value: str, kind: str, detail: str, measured: str | None) -> str:
    second = f'<span class="second">{measured} <span class="tag measured">measured</span></span>' if measured else ""
    return (
        f'<li><span class="label">{label}</span><strong>{value}</strong>'
        f'<span class="detail"><span class="tag {kind}">{kind}</span> {join_units(detail)}</span>{second}</li>'
    )


def _memory_table(layers: Sequence[Layer], levels: Sequence[Footprint]) -> str:
    rows = (
        f'<tr><td>{index}</td><th scope="row"><bdi>{text(layer.name)}</bdi></th><td>{format_bytes(level.weight_bytes)}'
        f"</td><td>{format_bytes(level.total_bytes)}</td><td>{milliseconds(layer.breakdown_ms.total)}</td></tr>"
        for index, (layer, level) in enumerate(zip(layers, levels, strict=True), 1)
    )
    return _table(("#", "operator", "weights touched so far", "memory touched so far", "time"), rows)


def _cost_rows(layers: Sequence[Layer]) -> str:
    ranked = sorted(enumerate(layers, 1), key=lambda entry: -entry[1].breakdown_ms.total)
    largest = max((layer.breakdown_ms.total for layer in layers), default=0.0) or 1.0
    rows = [_cost_row(rank, index, layer, largest) for rank, (index, layer) in enumerate(ranked[:MOST_ROWS])]
    rest = [layer.breakdown_ms.total for _, layer in ranked[MOST_ROWS:]]
    if rest:
        rows.append(
            f'<tr class="rest" role="row"><td role="cell" class="n"></td><td role="cell" class="op">'
            f"{count(len(rest))} other operators</td>"
            f'<td role="cell" class="t">{number(sum(rest))}</td></tr>'
        )
    return "".join(rows)


def _cost_row(rank: int, index: int, layer: Layer, largest: float) -> str:
    split = layer.breakdown_ms
    inside = layer.support == "inside"
    estimated = "" if inside else ' <span class="tag estimated">unlike those measured</span>'
    hidden = " hidden" if rank >= SHOWN_ROWS else ""
    cells = "".join(
        f'<td role="cell" class="c {cause}">{short_number(value)}</td>' for cause, value in split.by_cause().items()
    )
    return (
        f'<tr role="row" data-i="{index - 1}"{hidden}><td role="cell" class="n">{index}</td>'
        f'<th role="rowheader" scope="row" class="op"><bdi>{text(layer.name, limit=80)}</bdi>'
        f"<small><bdi>{text(kind(layer), limit=60)}</bdi>{estimated}</small></th>"
        f'<td role="cell" class="b">{stacked_bar(split.by_cause(), largest)}</td>'
        f'<td role="cell" class="t">{number(split.total)}</td>{cells}'
        f'<td role="cell" class="w">{format_bytes(layer.weight_bytes) if layer.weight_bytes else ""}</td></tr>'
    )


def _curve_section(findings: Findings) -> str:
    prediction = findings.prediction
    if not findings.curve or prediction.memory.epc_bytes is None:
        return ""
    interval = prediction.interval_ms
    here = CurvePoint(prediction.memory.epc_bytes, prediction.latency_ms, interval.low, interval.high)
    measured = [
        CurvePoint(point.epc_bytes, point.measurement.latency_ms, point.low_ms, point.high_ms)
        for point in findings.measured
        if point.epc_bytes is not None
    ]
    stops_bytes = prediction.memory.working_set_bytes
    chart = curve_chart(findings.curve, measured, here, prediction.native_ms, stops_bytes)
    rows = (
        f'<tr><th scope="row">{format_bytes(p.epc_bytes)}</th><td>{milliseconds(p.latency_ms)}</td>'
        f"<td>{milliseconds(p.low)} to {milliseconds(p.high)}</td></tr>"
        for p in findings.curve
    )
    table = _table(("EPC", "predicted latency", "90 % interval"), rows)
    dots = '<li><i class="key measured-key"></i>measured, 95 % interval</li>' if measured else ""
    return (
        '<section aria-labelledby="h-curve"><header><h2 id="h-curve">Latency against EPC size</h2>'
        f"<p>{insight_curve(findings)}</p></header><div><figure>"
        f'<div class="scrub" tabindex="0" role="img" aria-label="Predicted latency for EPC sizes from '
        f"{format_bytes(findings.curve[0].epc_bytes)} to {format_bytes(findings.curve[-1].epc_bytes)}. "
        f'{insight_curve(findings)} The table below has the numbers." data-scrub="curve">{chart}</div>'
        '<figcaption><ul class="legend">'
        '<li><i class="key curve-key"></i>predicted, with its 90 % interval</li>'
        '<li><i class="key native-key"></i>outside an enclave</li>'
        f'<li><i class="key here-key"></i>this EPC</li>{dots}</ul></figcaption></figure>'
        f"<details><summary>The numbers as a table</summary>{table}</details></div></section>"
    )


def _table(header: Iterable[str], rows: Iterable[str]) -> str:
    titles = "".join(f'<th scope="col">{title}</th>' for title in header)
    return (
        f'<div class="scroll"><table class="plain"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _data(findings: Findings) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for layer, level in zip(findings.prediction.layers, findings.footprints, strict=True):
        split = layer.breakdown_ms
        touched, weights = format_bytes(level.total_bytes), format_bytes(level.weight_bytes)
        layers.append(
            {
                "name": printable(layer.name),
                "type": printable(kind(layer)),
                "order": len(layers),
                "total": split.total,
                **split.by_cause(),
                "weights": layer.weight_bytes,
                "lines": [
                    f"{milliseconds(split.total)}; outside an enclave {milliseconds(layer.native_ms)}",
                    ", ".join(f"{cause} {number(value)}" for cause, value in split.by_cause().items()) + " ms",
                    f"weights {format_bytes(layer.weight_bytes)}, {count(layer.loads)} page loads",
                    f"output {'x'.join(map(str, layer.output_shape)) or 'scalar'}",
                    f"touched so far: {touched}, including {weights} of weights",
                    f"runs as {printable(layer.type)}",
                ],
            }
        )
    curve = [
        {
            "epc": point.epc_bytes,
            "title": f"EPC {format_bytes(point.epc_bytes)}",
            "lines": [
                f"{milliseconds(point.latency_ms)} predicted",
                f"90 % interval {number(point.low)} to {milliseconds(point.high)}",
            ],
        }
        for point in findings.curve
    ]
    return {"layers": layers, "curve": curve, "shown": SHOWN_ROWS}


def _script_json(data: dict[str, Any]) -> str:
    """JSON that is safe in a script element: ASCII, without any character that could end the element."""
    written = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
