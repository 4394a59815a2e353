"""The report's sentences, advice and tables of facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum import __version__
from sectum.cli.predict.advice import sentence, title
from sectum.cli.predict.facts import Fact, facts
from sectum.cli.render.figures import count, join_units, milliseconds, number, percent, times
from sectum.cli.report.charts import text
from sectum.units import PAGE_BYTES, format_bytes

if TYPE_CHECKING:
    from sectum.cli.report.findings import Findings
    from sectum.predict.prediction import Prediction

_COSTS = (
    ("compute_factor", "Compute in the enclave", "times that outside"),
    ("load_us", "Page load", "us"),
    ("evict_us", "Page eviction", "us"),
)


def measured_sentence(findings: Findings) -> str:
    """Compare the measurement with the prediction; empty without a measurement."""
    if not findings.measured:
        return ""
    point = findings.measured[-1]
    measured, predicted = point.measurement, findings.prediction.latency_ms
    error = f"{predicted / measured.latency_ms - 1:+.0%}".replace("%", "&nbsp;%")
    spread = "" if measured.uncertainty is None else f" &plusmn; {100 * measured.uncertainty:.1f}&nbsp;%"
    other = "" if findings.prediction.calibrated else ", which is in another machine's milliseconds,"
    equal = " Its outputs equal the native run's, bit for bit." if measured.outputs_equal_native else ""
    return (
        f'<p class="beside"><span class="tag measured">measured</span> {milliseconds(measured.latency_ms)}{spread}. '
        f"The prediction{other} is off by {error}.{equal}</p>"
    )


def insight_memory(findings: Findings) -> str:
    """Say what the memory chart shows."""
    memory = findings.prediction.memory
    sizes = f"{format_bytes(memory.weight_bytes)} of weights and {format_bytes(memory.activation_bytes)} of activations"
    touches = f"One inference touches {sizes}."
    if memory.epc_bytes is None:
        return f"{touches} There is no limit."
    levels = enumerate(findings.footprints)
    crossing = next((index for index, level in levels if level.total_bytes > memory.epc_bytes), None)
    if crossing is None:
        return f"{touches} The total stays below the EPC: nothing is paged."
    layers = findings.prediction.layers
    loaded = format_bytes(memory.loads * PAGE_BYTES)
    return (
        f"{touches} The total exceeds the EPC at operator {count(crossing + 1)} of {count(len(layers))}, "
        f"<bdi>{text(layers[crossing].name, limit=60)}</bdi>. Pages evicted from there on are missing in the next "
        f"inference: every inference loads {loaded} again."
    )


def insight_costs(prediction: Prediction) -> str:
    """Say how many operators take most of the time."""
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
        f"{operators} {percent(so_far / total)} of the time. The runtime executes {count(len(ranked))} operators for "
        f"the model's {count(prediction.coverage.operators)}; they have the model's names here."
    )


def insight_curve(findings: Findings) -> str:
    """Say where more memory helps."""
    prediction = findings.prediction
    stops_bytes = prediction.memory.working_set_bytes
    if not prediction.overcommit.predicted:
        begins = format_bytes(stops_bytes)
        return f"Nothing is paged at this EPC size, so more memory does not help. Paging begins below {begins}."
    best = next((p for p in findings.curve if p.epc_bytes >= stops_bytes), findings.curve[-1])
    gain = times(prediction.latency_ms / best.latency_ms) if best.latency_ms > 0 else "many times"
    stops, there = format_bytes(stops_bytes, round_up=True), milliseconds(best.latency_ms)
    return f"Paging stops at {stops}, where one inference takes {there}: {gain} faster."


def advice_cards(findings: Findings) -> str:
    """One card for each piece of advice."""
    cards = (
        f'<li class="card"><h3>{text(title(item))}</h3><p>{text(join_units(sentence(item)), limit=1000)}</p></li>'
        for item in findings.advice
    )
    return "".join(cards)


def notes(prediction: Prediction) -> str:
    """The prediction's caveats, as items of a list."""
    return "".join(f"<li>{text(_capital(note) + '.', limit=600)}</li>" for note in prediction.notes)


def numbers(findings: Findings) -> str:
    """The numbers of the prediction and of the measurements, as rows of a table."""
    found = facts(findings.prediction)
    for point in findings.measured:
        measured, inside = point.measurement, point.epc_bytes is not None
        where = f"EPC {format_bytes(point.epc_bytes)}" if point.epc_bytes is not None else "outside an enclave"
        found.append(Fact("latency", milliseconds(measured.latency_ms), "measured", where))
        if inside and measured.loads is not None:
            found.append(Fact("page loads", count(measured.loads), "measured", "per inference"))
        if inside and measured.outputs_equal_native is not None:
            equal = "equal" if measured.outputs_equal_native else "different"
            found.append(Fact("outputs", equal, "measured", "compared with the native run's, bit for bit"))
    return "".join(
        f'<tr><th scope="row">{text(_capital(fact.label.strip()))}</th><td>{text(fact.value)}</td>'
        f'<td><span class="tag {text(fact.kind)}">{text(fact.kind)}</span></td><td>{text(fact.detail, limit=600)}</td>'
        "</tr>"
        for fact in found
    )


def provenance(findings: Findings) -> str:
    """Where the numbers come from, as rows of a table."""
    prediction, profile = findings.prediction, findings.profile
    rows = [
        ("Model", f"<bdi>{text(findings.label)}</bdi>"),
        ("SHA-256 of its file", findings.sha256 or "none: the zoo made this network"),
        ("Predicted for the machine", text(prediction.machine)),
        ("Calibrated", "yes" if prediction.calibrated else "no: times are those of the machine above"),
        ("Enclave", f"{text(profile.name)}: {text(profile.description, limit=400)}"),
        ("SHA-256 of its profile", profile.sha256),
        ("Replacement policy", text(str(profile.policy))),
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
    rows += [("Report made", f"{text(findings.made_at)} by Sectum {__version__} on {text(findings.machine)}")]
    return "".join(f'<tr><th scope="row">{label}</th><td>{value}</td></tr>' for label, value in rows)


def _capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"
