"""What a folder of measured networks holds, in figures."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sectum.lab.dataset import dataset
from sectum.lab.dataset.shards import in_journals
from sectum.units import PAGE_BYTES

SAME_EPC_BYTES = 16 * PAGE_BYTES
"""Two sizes that differ by one batch of the pager are taken as the same."""

_RUN_COLUMNS = (
    "place", "epc_bytes", "latency", "uncertainty", "products_ms", "sums_ms", "sums_share", "settled", "loads",
    "outputs_equal_native",
)  # fmt: skip
_COLUMNS = (
    "key", "family", "structure", "batch", "working_set_bytes", "error", "machine", "date", "seconds",
    *(f"runs.list.element.{name}" for name in _RUN_COLUMNS),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EnclaveRow:
    """A network under one size of EPC."""

    family: str
    working_set_bytes: int
    epc_bytes: int
    loads: float
    settled: bool
    is_single: bool
    outputs_equal_native: bool

    @property
    def working_set_over_epc(self) -> float:
        """Over 1, the working set does not fit."""
        return self.working_set_bytes / self.epc_bytes

    @property
    def is_overcommitted(self) -> bool:
        """Whether it pages in the steady state."""
        return dataset.is_over_committed(self.loads, self.working_set_bytes)

    @property
    def is_boundary(self) -> bool:
        """Whether working set and EPC are of about one size."""
        return dataset.BOUNDARY[0] <= self.working_set_over_epc <= dataset.BOUNDARY[1]


@dataclass
class Survey:
    """All networks of a folder, without their samples and graphs.

    Attributes:
        structures: that were measured; networks of one structure differ in batch or machine.
        by_family: networks of each family that were measured.
        by_machine: networks that were measured on each machine.
        native_ms: latencies of each family.
        rows: each network under each size of EPC, those measured again included.
        failures: reasons, with how often.
        repeats: networks that were measured a second time.
        repeated_rows: rows of these.
        dates: of all.
        spent_s: in measuring, failures included.
        noise: later over first latency of the same network in the same place, by place.
    """

    structures: set[str] = field(default_factory=set)
    by_family: Counter[str] = field(default_factory=Counter)
    by_machine: Counter[str] = field(default_factory=Counter)
    native_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rows: list[EnclaveRow] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    repeated_rows: int = 0
    dates: list[str] = field(default_factory=list)
    spent_s: float = 0.0
    noise: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def survey(folder: Path) -> Survey:
    """Read a dataset.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: a shard is damaged or of another format, or there is none.
    """
    found = Survey()
    first: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    later: list[tuple[tuple[str, str], list[Mapping[str, Any]]]] = []
    for network in dataset.read(folder, _COLUMNS):
        found.dates.append(network["date"])
        found.spent_s += network["seconds"]
        if network["error"]:
            found.failures[network["error"]] += 1
            continue
        key, _, again = network["key"].partition("#")
        if again:
            found.repeats += 1
            found.repeated_rows += len(network["runs"]) - 1
            later.append(((key, network["machine"]), network["runs"]))
        else:
            first[key, network["machine"]] = network["runs"]
            found.structures.add(network["structure"])
            found.by_family[network["family"]] += 1
            found.by_machine[network["machine"]] += 1
        _add_runs(found, network)
    for which, runs in later:
        for place, ratio in _later_over_first(first.get(which, []), runs):
            found.noise[place].append(ratio)
    return found


def _add_runs(found: Survey, network: Mapping[str, Any]) -> None:
    native, *limited = dataset.with_one_native(network["runs"])
    found.native_ms[network["family"]].append(dataset.run_ms(native))
    for run in limited:
        if run["epc_bytes"] is not None:
            row = EnclaveRow(
                family=network["family"],
                working_set_bytes=network["working_set_bytes"],
                epc_bytes=run["epc_bytes"],
                loads=run["loads"],
                settled=run["settled"],
                is_single=run["uncertainty"] is None,
                outputs_equal_native=run["outputs_equal_native"],
            )
            found.rows.append(row)


def _later_over_first(
    first: Sequence[Mapping[str, Any]], later: Sequence[Mapping[str, Any]]
) -> Iterable[tuple[str, float]]:
    """Ratios of latencies in the same place, at the same size of EPC."""
    waiting = dataset.with_one_native(later)
    for run in dataset.with_one_native(first):
        for other in waiting:
            apart = abs((run["epc_bytes"] or 0) - (other["epc_bytes"] or 0))
            if run["place"] == other["place"] and apart <= SAME_EPC_BYTES:
                yield run["place"], other["latency"] / run["latency"]
                waiting.remove(other)
                break


def agreement(ratios: Iterable[float]) -> dict[str, float | int] | None:
    """Share of the ratios within 5 and 10 % of 1; None where there are none."""
    apart = [abs(ratio - 1) for ratio in ratios]
    if not apart:
        return None
    return {
        "within_5": sum(a <= 0.05 for a in apart) / len(apart),
        "within_10": sum(a <= 0.1 for a in apart) / len(apart),
        "n": len(apart),
    }


def summary(folder: Path, found: Survey) -> dict[str, Any]:
    """Make plain values for JSON; `docs/dataset.md` says what they mean."""
    noise: dict[str, Any] | None = agreement(ratio for ratios in found.noise.values() for ratio in ratios)
    if noise is not None:
        noise |= {place: agreement(ratios) for place, ratios in sorted(found.noise.items())}
    return {
        "folder": str(folder),
        "networks": found.by_machine.total(),
        "structures": len(found.structures),
        "rows": len(found.rows),
        "repeated_rows": found.repeated_rows,
        "overcommitted_rows": sum(row.is_overcommitted for row in found.rows),
        "boundary_rows": sum(row.is_boundary for row in found.rows),
        "by_family": by_family(found),
        "repeats": found.repeats,
        "label_noise": noise,
        "failures": dict(found.failures.most_common()),
        "unsettled_rows": sum(not row.settled for row in found.rows),
        "single_sample_rows": sum(row.is_single for row in found.rows),
        "rows_with_other_outputs": sum(not row.outputs_equal_native for row in found.rows),
        "machines": _machines(folder, found),
        "first_date": min(found.dates, default=None),
        "last_date": max(found.dates, default=None),
        "spent_hours": found.spent_s / 3600,
        "shards": len(dataset.shards(folder)),
        "shard_bytes": sum(path.stat().st_size for path in dataset.shards(folder)),
        "networks_in_journals": in_journals(folder),
    }


def by_family(found: Survey) -> dict[str, dict[str, float]]:
    """Counts of each family, and medians of native latency and working set."""
    rows: defaultdict[str, list[EnclaveRow]] = defaultdict(list)
    for row in found.rows:
        rows[row.family].append(row)
    return {
        family: {
            "networks": networks,
            "rows": len(rows[family]),
            "overcommitted_rows": sum(row.is_overcommitted for row in rows[family]),
            "boundary_rows": sum(row.is_boundary for row in rows[family]),
            "median_native_ms": statistics.median(found.native_ms[family]),
            "median_working_set_bytes": statistics.median(row.working_set_bytes for row in rows[family]),
        }
        for family, networks in sorted(found.by_family.items())
    }


def _machines(folder: Path, found: Survey) -> dict[str, Any]:
    """What is known of each machine: from the context of the last shard that it, or its cluster, wrote."""
    contexts: dict[str, Mapping[str, Any]] = {}
    for shard, context in dataset.contexts(folder).items():
        contexts |= context.get("nodes") or {shard.rsplit("-", 2)[0]: context}
    return {
        machine: {
            "networks": networks,
            **{
                name: contexts.get(machine, {}).get(name)
                for name in ("cpu_model", "memory_bytes", "kernel", "versions")
            },
        }
        for machine, networks in sorted(found.by_machine.items())
    }
