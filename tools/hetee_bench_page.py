"""Writes the results of ``sectum hetee bench inference`` into docs/hetee-bench.md, and holds them to their bars.

    python tools/hetee_bench_page.py RUN.json [RUN.json ...]

Each file is what the command printed with --json on one machine, all 25 cells of it. The table of each machine replaces
what stands between the two marks of the page. Exit code: 0, or 1 if a cell misses a bar, or 2 if a run is not whole.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "hetee-bench.md"
BEGIN, END = "<!-- results: tools/hetee_bench_page.py -->", "<!-- end of results -->"
CELLS = 25
THROUGHPUT_PCT = 1.0  # at most, in every cell
LATENCY_SHARE = 0.2  # of HETEE's, at most, in every cell
_COLUMNS = (
    *("network", "batch", "throughput overhead, %", "HETEE", "latency overhead, %", "HETEE", "vs baseline, %"),
    *("added ms/image", "HETEE"),
)


def misses(run: dict[str, Any]) -> list[str]:
    """What in a run misses its bar, as sentences."""
    found = []
    for cell in run["cells"]:
        name, hetee = f"{cell['network']} in batches of {cell['batch']}", cell["hetee"]["latency_overhead_pct"]
        if cell["throughput_overhead_pct"] > THROUGHPUT_PCT:
            found.append(
                f"{name}: throughput overhead {cell['throughput_overhead_pct']:.2f} %, at most {THROUGHPUT_PCT}"
            )
        if cell["latency_overhead_pct"] > LATENCY_SHARE * hetee:
            overhead, bar = cell["latency_overhead_pct"], LATENCY_SHARE * hetee
            found.append(f"{name}: latency overhead {overhead:.2f} %, at most {bar:.2f}")
    return found


def table(run: dict[str, Any]) -> str:
    """The section of one machine."""
    about, cells, missed = run["context"], run["cells"], misses(run)
    most = max(cell["latency_overhead_pct"] / cell["hetee"]["latency_overhead_pct"] for cell in cells)
    lines = [
        f"### {about['machine']}, {about['cores']} cores, {about['measured'][:10]}",
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
    """The page with these results in place of those before."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n" + "\n".join(map(table, runs)) + f"{END}{after}"


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
