"""A search in words."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from sectum.cli.render.figures import milliseconds, number, plural, times
from sectum.predict.calibration import uncalibrated_note
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.cli.search.searching import Searched
    from sectum.plan.search import Evaluated

HEADER = ("network", "latency", "at most", "score", "working set", "EPC")
CHOICE_HEADER = ("network", "latency", "without EPC", "believed", "times", "chosen without the EPC")
MEASURED_HEADER = ("network", "predicted", "measured", "loads", "times", "chosen")


def verdict(result: Searched) -> str:
    """What was found, in two sentences."""
    found, request = result.found, result.request
    best = found.front[-1].evaluated
    front = plural(len(found.front), "network")
    all_of_space = "; these are all networks of the space" if found.complete else ""
    return (
        f"{front} of {plural(found.trials, 'trial')} are the front under {milliseconds(request.bound_ms)} in "
        f"{where(result)}: of none there is a faster one of a score as high. {found.under_bound:,} trials were under "
        f"the bound{all_of_space}. The highest score is {score(best.score)}, of {best.name}: "
        f"{milliseconds(best.latency_ms)}, at most {milliseconds(best.upper_ms)}, predicted.{_by_plans(result)}"
    )


def _by_plans(result: Searched) -> str:
    if not result.request.plans:
        return ""
    count = sum(one.evaluated.planned for one in result.found.front)
    return f" Of the front, {count} of {len(result.found.front)} run by a plan, which is faster than paging."


def files(result: Searched) -> str:
    """How many files of each kind were written."""
    models = plural(len(result.files), "ONNX file")
    return f"{models}, {plural(len(result.plan_files), 'plan')}" if result.plan_files else models


def where(result: Searched) -> str:
    """The enclave with its EPC."""
    profile = result.profile
    return (
        profile.name if profile.epc_bytes is None else f"{profile.name} with {format_bytes(profile.epc_bytes)} of EPC"
    )


def score(value: float | None) -> str:
    """A score: four significant digits."""
    return "" if value is None else f"{value:.4g}"


def front_rows(result: Searched) -> list[tuple[str, ...]]:
    """A row for each network of the front."""
    return [
        (
            name,
            milliseconds(one.evaluated.latency_ms),
            milliseconds(one.evaluated.upper_ms),
            score(one.evaluated.score),
            format_bytes(one.evaluated.working_set_bytes),
            _in_epc(one.evaluated),
        )
        for name, one in result.named_front()
    ]


def _in_epc(one: Evaluated) -> str:
    if one.planned:
        return "over-committed: by a plan"
    return "over-committed: pages" if one.overcommit else "fits"


def comparison(result: Searched) -> str:
    """What knowing the EPC is worth."""
    if result.why_not_compared:
        return f"Without the EPC the search finds nothing: {result.why_not_compared}."
    known = [one for one in result.choices or () if one.times is not None]
    if not known:
        return "The search without the EPC found no network of such scores."
    ratios = [one.times for one in known if one.times is not None]
    over = sum(1 for one in known if one.in_epc is not None and (one.in_epc.upper_ms or 0.0) > result.request.bound_ms)
    knows = "knows neither the EPC nor plans" if result.request.plans else "does not know the EPC"
    return (
        f"A search that {knows} would choose, for scores as high, networks that take "
        f"{times(statistics.median(ratios))} as long in the median, at most {times(max(ratios))}. "
        f"{over} of {len(known)} would exceed the bound. All predicted."
    )


def choice_rows(result: Searched) -> list[tuple[str, ...]]:
    """A row for each network of the front: what would have been chosen in its place."""
    rows: list[tuple[str, ...]] = []
    for one in result.choices or ():
        if one.blind is None or one.in_epc is None:
            rows.append((one.aware.evaluated.name, milliseconds(one.aware.evaluated.latency_ms), "", "", "", "none"))
            continue
        rows.append(
            (
                one.aware.evaluated.name,
                milliseconds(one.aware.evaluated.latency_ms),
                milliseconds(one.in_epc.latency_ms),
                milliseconds(one.blind.evaluated.latency_ms),
                number(one.times or 0.0),
                one.blind.evaluated.name,
            )
        )
    return rows


def measured_rows(result: Searched) -> list[tuple[str, ...]]:
    """A row for each network that was measured."""
    front = {one.found.evaluated.name: one.measurement.latency_ms for one in result.measurements if not one.in_place_of}
    rows: list[tuple[str, ...]] = []
    for one in result.measurements:
        measured_ms = one.measurement.latency_ms
        rows.append(
            (
                one.found.evaluated.name,
                milliseconds(one.predicted_ms),
                milliseconds(measured_ms),
                number(one.measurement.loads or 0),
                number(measured_ms / front[one.in_place_of]) if one.in_place_of else "",
                f"without the EPC, for {one.in_place_of}"
                if one.in_place_of
                else "with the EPC, by its plan"
                if one.planned
                else "with the EPC",
            )
        )
    return rows


def notes(result: Searched) -> list[str]:
    """What a person should know beside it."""
    found, notes = result.found, list(result.found.notes)
    if found.failed:
        notes.append(f"{plural(found.failed, 'trial')} failed. The first, {found.first_failure}")
    if result.predictor.calibration is None:
        notes.append(uncalibrated_note(result.predictor.machine))
    return notes
