"""The summary of a dataset, for people."""

from __future__ import annotations

from typing import Any

from sectum.cli.render.figures import count, milliseconds, percent
from sectum.cli.render.show import paragraph, rows, say
from sectum.lab.dataset.dataset import BOUNDARY, OVERCOMMITTED_SHARE
from sectum.units import format_bytes


def print_summary(told: dict[str, Any]) -> None:
    """Print the figures of `sectum.lab.dataset.summary.summary`, and a line for each family."""
    low, high = BOUNDARY
    n = max(1, told["rows"])
    rows(
        [
            ("networks", count(told["networks"]),
             f"measured, of {count(told['structures'])} distinct structures; the rest differs in batch or machine"),
            ("rows", count(told["rows"]),
             f"a network under one size of EPC; {count(told['repeated_rows'])} of networks that were measured again"),
            ("over-committed", count(told["overcommitted_rows"]),
             f"{percent(told['overcommitted_rows'] / n)}; a steady-state inference loads over "
             f"{100 * OVERCOMMITTED_SHARE:g} % of its working set's pages"),
            ("boundary", count(told["boundary_rows"]),
             f"{percent(told['boundary_rows'] / n)}; working set {low:g} to {high:g} times the EPC"),
            ("unsettled", count(told["unsettled_rows"]), "rows whose page counts may not have been steady"),
            ("one sample", count(told["single_sample_rows"]), "rows whose latency is that of one inference"),
            ("other outputs", count(told["rows_with_other_outputs"]), "rows with other outputs than the native run"),
            ("measured again", count(told["repeats"]), _noise(told["label_noise"])),
            ("failures", count(sum(told["failures"].values())), "networks without measurements"),
            ("in journals", count(told["networks_in_journals"]), "networks that are in no shard yet, not counted"),
            ("shards", count(told["shards"]),
             f"{format_bytes(told['shard_bytes'])}; {told['spent_hours']:.1f} h of measuring, "
             f"{told['first_date'][:10]} to {told['last_date'][:10]}"),
        ],
        right=(1,),
    )  # fmt: skip
    for reason, times in told["failures"].items():
        paragraph(f"{times} x {reason}", hanging="  ")
    for machine, what in told["machines"].items():
        versions = (what["versions"] or {}).get("onnxruntime", "unknown")
        paragraph(
            f"{machine}: {what['networks']} networks; {what['cpu_model']}, {what['kernel']}, ONNX Runtime {versions}",
            hanging="  ",
        )
    say("")
    _print_families(told)


def _noise(noise: dict[str, Any] | None) -> str:
    if noise is None:
        return "the noise of the labels is not known"
    return (
        f"{percent(noise['within_5'])} of {count(noise['n'])} latencies within 5 % of the first time, "
        f"{percent(noise['within_10'])} within 10 %"
    )


def _print_families(told: dict[str, Any]) -> None:
    rows(
        [
            (
                family,
                count(of["networks"]),
                count(of["rows"]),
                count(of["overcommitted_rows"]),
                count(of["boundary_rows"]),
                milliseconds(of["median_native_ms"]),
                format_bytes(of["median_working_set_bytes"]),
                "",
            )
            for family, of in told["by_family"].items()
        ],
        right=(1, 2, 3, 4, 5, 6),
        header=("family", "networks", "rows", "over-committed", "boundary", "native", "working set", "(medians)"),
    )
