"""The report's section about the best plan, with a small figure: three latencies as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.cli.render.figures import join_units, milliseconds, plural
from sectum.cli.report.charts import stacked_bar, text
from sectum.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sectum.cli.report.findings import Findings
    from sectum.plan.planned import Planned


def plan_section(findings: Findings) -> str:
    """What the best plan takes, beside the network without one and outside an enclave; empty where none helps."""
    if findings.plan is None:
        return ""
    planned = findings.plan.planned
    bars = [
        ("paged", findings.prediction.breakdown_ms.by_cause()),
        ("by the plan", causes(planned)),
        ("outside an enclave", {"compute": planned.native_ms}),
    ]
    longest = max(sum(split.values()) for _, split in bars)
    rows = "".join(_bar(label, split, longest) for label, split in bars)
    meanings = {"compute": "compute", "memory": "slower memory in the enclave", "paging": "paging",
                "opening": "opening sealed weights"}  # fmt: skip
    keys = "".join(
        f'<li><i class="key {cause}"></i>{meaning}</li>'
        for cause, meaning in meanings.items()
        if any(split.get(cause) for _, split in bars)
    )
    streamed = sum(1 for stage in planned.stages if stage.streamed)
    how = (
        f"It cuts the network into {plural(len(planned.stages), 'stage')}. The weights of {streamed:,} of them lie "
        f"sealed outside, {format_bytes(planned.opened_bytes)} in all, and are opened just before use. Outputs are the "
        "same, bit for bit."
    )
    return (
        '<section aria-labelledby="h-plan"><header><h2 id="h-plan">Run it by a plan</h2>'
        f"<p>{text(join_units(findings.plan.sentence), limit=1000)}</p></header><div><figure>"
        f'<ul class="latencies">{rows}</ul>'
        f'<figcaption><ul class="legend">{keys}</ul><p>{join_units(how)}</p></figcaption></figure></div></section>'
    )


def causes(planned: Planned) -> dict[str, float]:
    """The latency of a plan in milliseconds by cause; opening is what computing has to wait for."""
    compute = sum(one.times.computing.ms for one in planned.by_stage)
    paging = sum(one.paging_ms for one in planned.by_stage)
    return {"compute": compute, "paging": paging, "opening": max(0.0, planned.latency_ms - compute - paging)}


def _bar(label: str, split: Mapping[str, float], longest: float) -> str:
    return (
        f'<li><span class="label">{label}</span>{stacked_bar(split, longest)}'
        f"<strong>{join_units(milliseconds(sum(split.values())))}</strong></li>"
    )
