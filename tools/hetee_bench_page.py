"""Writes results of ``sectum hetee bench inference`` and ``training`` into docs/hetee-bench.md, held to their bars.

    python tools/hetee_bench_page.py RUN.json [RUN.json ...]

Each file is what one of the commands printed with --json on one machine, all 25 cells of it. The tables of a command
replace what stands between its two marks of the page. Exit code: 0, or 1 if a cell misses a bar, or 2 if a run is not
whole.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "hetee-bench.md"
END = "<!-- end of results -->"
CELLS = 25
_COLUMNS = (
    *("network", "batch", "throughput overhead, %", "HETEE", "latency overhead, %", "HETEE", "vs baseline, %"),
    *("added ms/image", "HETEE"),
)


class Bars(NamedTuple):
    """What the overheads of every cell are at most, in per cent; that of latency also as a share of HETEE's."""

    throughput: float
    latency: float = float("inf")
    latency_share: float = float("inf")

    def most_latency(self, cell: dict[str, Any]) -> float:
        """The largest overhead of latency that this cell may have."""
        return float(min(self.latency, self.latency_share * cell["hetee"]["latency_overhead_pct"]))


BARS = {"inference": Bars(throughput=1.0, latency_share=0.2), "training": Bars(throughput=0.5, latency=2.0)}


def begin(task: str) -> str:
    """The mark before the tables of a command."""
    return f"<!-- results of {task}: tools/hetee_bench_page.py -->"


def misses(run: dict[str, Any]) -> list[str]:
    """What in a run misses its bar, as sentences."""
    found = []
    bars = BARS[run["context"]["task"]]
    for cell in run["cells"]:
        name = f"{cell['network']} in batches of {cell['batch']}"
        for kind, most in (("throughput", bars.throughput), ("latency", bars.most_latency(cell))):
            overhead = cell[f"{kind}_overhead_pct"]
            if overhead > most:
                found.append(f"{name}: {kind} overhead {overhead:.2f} %, at most {most:.2f}")
    return found


def table(run: dict[str, Any]) -> str:
    """The section of one machine."""
    about, cells, missed = run["context"], run["cells"], misses(run)
    most = max(cell["latency_overhead_pct"] / cell["hetee"]["latency_overhead_pct"] for cell in cells)
    lines = [
        f"### {about['task'].capitalize()}: {about['machine']}, {about['cores']} cores, {about['measured'][:10]}",
        "*Paced* preprocessing and computing, everything else *measured*; medians of "
        f"{about['batches']} batches; {about['evidence']}.",
        f"HETEE's numbers are *published*. Load at the start: {about['load_average'][0]:.2f}. "
        + ("All cells meet the bars" if not missed else "These miss their bars: " + "; ".join(missed))
        + f". The largest latency overhead is {most:.2f} of HETEE's in the same cell.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"| {' | '.join('---' for _ in _COLUMNS)} |",
    ]
    for cell in cells:
        hetee = cell["hetee"]
        words = (
            cell["network"],
            str(cell["batch"]),
            _with_noise(cell, "throughput_overhead_pct"),
            f"{hetee['throughput_overhead_pct']:.2f}",
            _with_noise(cell, "latency_overhead_pct"),
            f"{hetee['latency_overhead_pct']:.2f}",
            _with_noise(cell, "over_baseline_pct"),
            f"{cell['added_ms_per_image']:.2f}",
            f"{hetee['added_ms_per_image']:.2f}",
        )
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def _with_noise(cell: dict[str, Any], name: str) -> str:
    low, high = cell["interval_95"][name]
    return f"{cell[name]:.2f} ±{(high - low) / 2:.2f}"


def page(text: str, runs: list[dict[str, Any]]) -> str:
    """The page with these results in place of those of the same commands before."""
    for task in BARS:
        if mine := [run for run in runs if run["context"]["task"] == task]:
            before, _, rest = text.partition(begin(task))
            _, _, after = rest.partition(END)
            text = f"{before}{begin(task)}\n" + "\n".join(map(table, mine)) + f"{END}{after}"
    return text


def main(paths: list[str]) -> int:
    """Read the runs, write the page, and judge."""
    runs = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if run["interrupted"] or len(run["cells"]) != CELLS:
            print(f"{path} has {len(run['cells'])} of {CELLS} cells: run all of them", file=sys.stderr)
            return 2
    if not runs:
        print("name at least one file that 'sectum hetee bench inference --json' wrote", file=sys.stderr)
        return 2
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), runs), encoding="utf-8")
    missed = [line for run in runs for line in misses(run)]
    print("\n".join(missed) or f"all {CELLS * len(runs)} cells meet the bars")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
