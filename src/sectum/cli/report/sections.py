"""The report's sentences, cards and tables of facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum import __version__
from sectum.cli.predict.advice import sentence, title
from sectum.cli.render.figures import count, enough, mebibytes, milliseconds, number, percent, times
from sectum.cli.report.charts import text
from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    from sectum.cli.report.findings import Findings
    from sectum.predict.prediction import Prediction

_COSTS = (
    ("compute_factor", "Compute inside", "times that outside"),
    ("load_us", "Loading a page", "us"),
    ("evict_us", "Evicting a page", "us"),
)


def measured_sentence(findings: Findings) -> str:
    """Set what was measured beside what is predicted; nothing if nothing was measured."""
    if not findings.measured:
        return ""
    point = findings.measured[-1]
    measured, predicted = point.measurement, findings.prediction.latency_ms
    error = f"{predicted / measured.latency_ms - 1:+.0%}".replace("%", "&nbsp;%")
    within = "" if measured.uncertainty is None else f" within {100 * measured.uncertainty:.1f}&nbsp;%"
    unlike = "" if findings.prediction.calibrated else " (in another machine's milliseconds)"
    equal = "; its outputs equal those outside an enclave, bit for bit" if measured.outputs_equal_native else ""
    return (
        f'<p class="beside"><span class="tag measured">measured</span> {milliseconds(measured.latency_ms)}{within}, '
        f"so the prediction{unlike} is off by {error}{equal}.</p>"
    )


def insight_memory(findings: Findings) -> str:
    """Say what the memory chart shows, in a sentence."""
    memory = findings.prediction.memory
    holds = f"{mebibytes(memory.weight_bytes)} of weights and {mebibytes(memory.activation_bytes)} of activations"
    if memory.epc_bytes is None:
        return f"An inference touches {holds}. There is no limit to pass."
    levels = enumerate(findings.footprints)
    crossing = next((index for index, level in levels if level.total_bytes > memory.epc_bytes), None)
    if crossing is None:
        return f"An inference touches {holds}. The staircase stays below the EPC: nothing is paged."
    layers = findings.prediction.layers
    again = mebibytes(memory.loads * PAGE_BYTES)
    return (
        f"An inference touches {holds}. The staircase passes the EPC at operator {count(crossing + 1)} of "
        f"{count(len(layers))}, <bdi>{text(layers[crossing].name, limit=60)}</bdi>. What is evicted from there on is "
        f"missing in the next inference: each one loads {again} again."
    )


def insight_costs(prediction: Prediction) -> str:
    """Say how many operators make up most of the time, in a sentence."""
    ranked = sorted((layer.breakdown_ms.total for layer in prediction.layers), reverse=True)
    total = sum(ranked)
    if total <= 0:
        return "No operator takes any time."
    so_far, most = 0.0, 0
    while so_far < 0.8 * total:
        so_far += ranked[most]
        most += 1
    operators = "One operator takes" if most == 1 else f"{count(most)} operators take"
    return (
        f"{operators} {percent(so_far / total)} of the time. The runtime executes {count(len(ranked))} in all; it "
        f"makes them of the model's {count(prediction.coverage.operators)}, whose names they bear here."
    )


def insight_curve(findings: Findings) -> str:
    """Say where more memory helps, in a sentence."""
    prediction = findings.prediction
    stops_bytes = prediction.memory.working_set_bytes
    if not prediction.overcommit.predicted:
        begins = mebibytes(stops_bytes)
        return f"At this size nothing is paged; more memory would change nothing. Paging begins below {begins}."
    best = next((p for p in findings.curve if p.epc_bytes >= stops_bytes), findings.curve[-1])
    gain = times(prediction.latency_ms / best.latency_ms) if best.latency_ms > 0 else "many times"
    there = milliseconds(best.latency_ms)
    return f"Paging stops at {enough(stops_bytes)}. There an inference takes {there}: {gain} faster."


def advice_cards(findings: Findings) -> str:
    """Make one card for each piece of advice."""
    cards = (
        f'<li class="card"><h3>{text(title(item))}</h3><p>{text(sentence(item), limit=1000)}</p></li>'
        for item in findings.advice
    )
    return "".join(cards)


def notes(prediction: Prediction) -> str:
    """Write what a person should know before relying on the numbers, as items of a list."""
    return "".join(f"<li>{text(f'{note[:1].upper()}{note[1:]}.', limit=600)}</li>" for note in prediction.notes)


def facts(findings: Findings) -> str:
    """Write the numbers of the prediction as rows of a table."""
    prediction, memory = findings.prediction, findings.prediction.memory
    split, interval, covered = prediction.breakdown_ms, prediction.interval_ms, prediction.coverage
    rows = [
        ("Latency in the enclave", milliseconds(prediction.latency_ms), "predicted"),
        ("90 % interval", f"{milliseconds(interval.low)} to {milliseconds(interval.high)}", "predicted"),
        ("Compute", milliseconds(split.compute), "predicted"),
        ("Slower memory inside", milliseconds(split.memory), "predicted"),
        ("Paging", milliseconds(split.paging), "predicted"),
        ("Latency outside", milliseconds(prediction.native_ms), prediction.native_source),
        ("Working set", mebibytes(memory.working_set_bytes), "predicted"),
        ("Weights", mebibytes(memory.weight_bytes), "predicted"),
        ("Activations", mebibytes(memory.activation_bytes), "predicted"),
    ]
    if memory.epc_bytes is not None and memory.margin_bytes is not None:
        margin = "left" if memory.margin_bytes >= 0 else "too little"
        rows += [
            ("Protected memory (EPC)", mebibytes(memory.epc_bytes), "given"),
            ("Margin", f"{mebibytes(abs(memory.margin_bytes))} {margin}", "predicted"),
            ("Probability of paging", percent(prediction.overcommit.probability), "predicted"),
        ]
    rows += [
        ("Pages loaded an inference", count(memory.loads), "predicted"),
        ("Pages evicted", count(memory.evictions), "predicted"),
        ("Pages mapped again", count(memory.minor_faults), "predicted"),
        ("Operators with a cost of their own", f"{covered.supported} of {covered.operators}", "counted"),
    ]
    html = [_row(label, value, kind) for label, value, kind in rows]
    if covered.unsupported:
        bounded = ", ".join(f"{n} {kind}" for kind, n in covered.unsupported.items())
        html.append(_row("Operators whose cost is only bounded", text(bounded, limit=600), "counted"))
    for point in findings.measured:
        measured = point.measurement
        where = "outside" if point.epc_bytes is None else f"in the enclave, {mebibytes(point.epc_bytes)}"
        html.append(_row(f"Latency {where}", milliseconds(measured.latency_ms), "measured"))
        if measured.loads is not None and point.epc_bytes is not None:
            html.append(_row("Pages loaded an inference", count(measured.loads), "measured"))
        if measured.outputs_equal_native is not None and point.epc_bytes is not None:
            equal = "equal, bit for bit" if measured.outputs_equal_native else "different"
            html.append(_row("Outputs against those outside", equal, "measured"))
    return "".join(html)


def provenance(findings: Findings) -> str:
    """Write where the numbers come from, as rows of a table."""
    prediction, profile = findings.prediction, findings.profile
    rows = [
        ("Model", f"<bdi>{text(findings.label)}</bdi>"),
        ("SHA-256 of its file", findings.sha256 or "made by the zoo: there is no file"),
        ("Milliseconds of", text(prediction.machine)),
        (
            "Calibrated",
            "yes" if prediction.calibrated else "no: these are the milliseconds of the machine above",
        ),
        ("Enclave", f"{text(profile.name)}: {text(profile.description, limit=400)}"),
        ("SHA-256 of its profile", profile.sha256),
        ("Eviction", text(str(profile.policy))),
    ]
    for name, label, unit in _COSTS:
        origin = profile.provenance.get(name)
        if origin is not None:
            source = f"{origin.kind}: {origin.source}"
            rows.append((label, f"{number(getattr(profile, name))} {unit}; {text(source, limit=300)}"))
    for point in findings.measured:
        context = point.measurement.context
        versions = ", ".join(f"{name} {version}" for name, version in context.get("versions", {}).items())
        where = ", ".join(str(context.get(key)) for key in ("cpu_model", "kernel", "date"))
        rows.append((f"Measured in {text(str(context.get('runner')))}", text(f"{where}; {versions}", limit=400)))
    rows += [("Page made", f"{text(findings.made_at)} by Sectum {__version__} on {text(findings.machine)}")]
    return "".join(f'<tr><th scope="row">{label}</th><td>{value}</td></tr>' for label, value in rows)


def _row(label: str, value: str, kind: str) -> str:
    return (
        f'<tr><th scope="row">{text(label)}</th><td>{value}</td>'
        f'<td><span class="tag {text(kind)}">{text(kind)}</span></td></tr>'
    )
