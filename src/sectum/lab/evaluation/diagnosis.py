"""Why a prediction is wrong: which of its parts has the largest error, compared with what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from sectum.lab.evaluation.running import Predictions
from sectum.lab.evaluation.truth import REGIMES, Truth, run_of
from sectum.lab.learners.measured import MeasuredNetwork, MeasuredRun
from sectum.units import MIB

LABEL, REGIME, NATIVE = "label uncertain", "regime wrong", "native part off"
FAULTS, PAGE_COST = "page faults miscounted", "cost of a page off"
REASONS = (LABEL, REGIME, NATIVE, FAULTS, PAGE_COST)

_FAR = 0.10


def reason(
    run: MeasuredRun, native_run: MeasuredRun, predicted_ms: float, predicted_native_ms: float, *,
    said_to_page: bool | None, modelled_loads: float,
) -> str:  # fmt: skip
    """The first of these that holds.

    *Label uncertain*: the label's own 95 % interval reaches half-way to the prediction, or further. *Regime wrong*:
    it was said to page and does not, or the other way round. *Native part off*: at least half of the error is the
    native latency's. *Page faults miscounted*: modelled and measured loads differ by as much as the part that paging
    has in the latency is off, or more. *Cost of a page off*: the faults are right, what each costs is not.
    """
    error_ms = predicted_ms - run.latency_ms
    if run.uncertainty * run.latency_ms >= abs(error_ms) / 2:
        return LABEL
    if run.epc_bytes is not None and said_to_page is not None and said_to_page != run.over_committed:
        return REGIME
    native_error_ms = predicted_native_ms - native_run.latency_ms
    if not run.over_committed or abs(native_error_ms) >= abs(error_ms - native_error_ms):
        return NATIVE
    paging_ms, predicted_paging_ms = run.latency_ms - native_run.latency_ms, predicted_ms - predicted_native_ms
    of_faults = abs(_log_ratio(modelled_loads, run.loads))
    return FAULTS if of_faults >= abs(_log_ratio(predicted_paging_ms, paging_ms)) / 2 else PAGE_COST


def _log_ratio(one: float, other: float) -> float:
    return float(np.log(max(one, 1e-6) / max(other, 1e-6)))


def reasons(networks: Sequence[MeasuredNetwork], cases: Truth, predicted: Predictions) -> dict[int, str]:
    """For each case that is more than 10 % off, by its line, why."""
    error = np.abs(predicted.latency_ms / cases.measured_ms - 1)
    native_ms = dict(
        zip(cases.network[~cases.in_enclave].tolist(), predicted.latency_ms[~cases.in_enclave].tolist(), strict=True)
    )
    found = {}
    for line in np.flatnonzero(error > _FAR).tolist():
        index = int(cases.network[line])
        network = networks[index]
        run = run_of(networks, index, int(cases.run[line]))
        probability = predicted.probability[line]
        found[line] = reason(
            run,
            network.native,
            float(predicted.latency_ms[line]),
            native_ms[index],
            said_to_page=None if np.isnan(probability) else bool(probability >= 0.5),
            modelled_loads=network.paging(run.epc_pages).loads if run.epc_pages is not None else 0.0,
        )
    return found


def reason_counts(cases: Truth, found: dict[int, str]) -> dict[str, dict[str, int]]:
    """How many cases are off for which reason, by regime."""
    by_regime = {name: Counter(dict.fromkeys(REASONS, 0)) for name in REGIMES}
    for line, why in found.items():
        by_regime[REGIMES[cases.regime[line]]][why] += 1
    return {name: dict(counts) for name, counts in by_regime.items()}


def worst(
    networks: Sequence[MeasuredNetwork], cases: Truth, predicted: Predictions, found: dict[int, str], *, most: int = 20
) -> list[dict[str, Any]]:
    """The cases that are furthest off, by the ratio of both latencies; of each network only the worst."""
    ratio = np.full(len(cases), 0.0)
    lines = np.array(sorted(found), dtype=np.int64)
    ratio[lines] = np.abs(np.log(predicted.latency_ms[lines] / cases.measured_ms[lines]))
    listed: dict[int, dict[str, Any]] = {}
    for line in lines[np.argsort(-ratio[lines], kind="stable")].tolist():
        network = networks[int(cases.network[line])]
        if len(listed) == most:
            break
        run = run_of(networks, int(cases.network[line]), int(cases.run[line]))
        listed.setdefault(
            int(cases.network[line]),
            {
                "network": network.key,
                "regime": REGIMES[cases.regime[line]],
                "epc_mib": None if run.epc_bytes is None else round(run.epc_bytes / MIB, 2),
                "working_set_mib": round(network.working_set_bytes / MIB, 2),
                "measured_ms": round(run.latency_ms, 3),
                "predicted_ms": round(float(predicted.latency_ms[line]), 3),
                "uncertainty": None if np.isinf(run.uncertainty) else round(run.uncertainty, 4),
                "reason": found[line],
            },
        )
    return list(listed.values())
