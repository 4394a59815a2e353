"""The summary of a dataset, for people."""

from __future__ import annotations

from typing import Any

from sectum.cli.render.figures import count, milliseconds, percent
from sectum.cli.render.show import paragraph, rows, say
from sectum.lab.dataset.dataset import BOUNDARY, OVERCOMMITTED_SHARE
from sectum.units import format_bytes


def print_summary(found: dict[str, Any]) -> None:
    """Print the figures of `sectum.lab.dataset.summary.summary`, and a line for each family."""
    low, high = BOUNDARY
    n = max(1, found["rows"])
    rows(
        [
            ("networks", count(found["networks"]),
             f"measured, of {count(found['structures'])} distinct structures; the rest differs in batch or machine"),
            ("rows", count(found["rows"]),
             f"a network at one EPC size; {count(found['repeated_rows'])} of networks that were measured again"),
            ("over-committed", count(found["overcommitted_rows"]),
             f"{percent(found['overcommitted_rows'] / n)}; a steady-state inference loads over "
             f"{100 * OVERCOMMITTED_SHARE:g} % of its working set's pages"),
            ("boundary", count(found["boundary_rows"]),
             f"{percent(found['boundary_rows'] / n)}; working set {low:g} to {high:g} times the EPC"),
            ("unsettled", count(found["unsettled_rows"]), "rows whose page counts may not have been steady"),
            ("one sample", count(found["single_sample_rows"]), "rows whose latency is that of one inference"),
            ("other outputs", count(found["rows_with_other_outputs"]), "rows with other outputs than the native run"),
            ("measured again", count(found["repeats"]), _noise(found["label_noise"])),
            ("failures", count(sum(found["failures"].values())), "networks without measurements"),
            ("in journals", count(found["networks_in_journals"]), "networks that are in no shard yet, not counted"),
            ("shards", count(found["shards"]),
             f"{format_bytes(found['shard_bytes'])}; {found['spent_hours']:.1f} h of measuring, "
             f"{found['first_date'][:10]} to {found['last_date'][:10]}"),
        ],
        right=(1,),
    )  # fmt: skip
    for reason, times in found["failures"].items():
        paragraph(f"{times} x {reason}", hanging="  ")
    for machine, what in found["machines"].items():
        versions = (what["versions"] or {}).get("onnxruntime", "unknown")
        paragraph(
            f"{machine}: {what['networks']} networks; {what['cpu_model']}, {what['kernel']}, ONNX Runtime {versions}",
            hanging="  ",
        )
    say("")
    _print_families(found)


def _noise(noise: dict[str, Any] | None) -> str:
    if noise is None:
        return "the noise of the labels is not known"
    return (
        f"{percent(noise['within_5'])} of {count(noise['n'])} latencies within 5 % of the first time, "
        f"{percent(noise['within_10'])} within 10 %"
    )


def _print_families(found: dict[str, Any]) -> None:
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
            for family, of in found["by_family"].items()
        ],
        right=(1, 2, 3, 4, 5, 6),
        header=("family", "networks", "rows", "over-committed", "boundary", "native", "working set", "(medians)"),
    )
