"""The study's observations in words: a title, sentences with their numbers, what follows from them, and a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sectum.cli.render.figures import count, milliseconds, number, percent

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """An observation, told.

    Attributes:
        name: that ``--only`` takes.
        title: what it is about.
        text: what is seen.
        consequence: what follows for a predictor; empty where nothing was measured.
        header: of the table; empty if there is none.
        table: its rows; all cells but the first ``names`` are numbers.
        names: how many columns name the row.
        picture: name of the picture that shows it; empty if there is none.
    """

    name: str
    title: str
    text: str
    consequence: str = ""
    header: Row = ()
    table: tuple[Row, ...] = ()
    names: int = 1
    picture: str = ""


def told(name: str, numbers: dict[str, Any] | None) -> Told:
    """Put an observation into words; one that nothing was measured for says how to measure it."""
    title, picture, consequence, tell = _WORDS[name]
    if numbers is None:
        how = "--threads 2 --cpu 0 --cpu 1` on a machine with two idle CPUs" if name == "threads" else "` measures it"
        text = f"Not measured here. `sectum study run{' ' if name == 'threads' else ''}{how}."
        return Told(name, title, text)
    text, header, table, names = tell(numbers)
    return Told(name, title, text, consequence, header, tuple(table), names, picture)


_Parts = tuple[str, Row, list[Row], int]


def _inside(numbers: dict[str, Any]) -> _Parts:
    text = (
        "Where an inference loads no page, its latency over that of the same network outside any enclave, and over "
        "that in an enclave without a limit where 80 to 100 % of the EPC are in use."
    )
    table: list[Row] = [
        (
            str(kind), count(of["n"]), number(of["over_native"]),
            f"{number(of['over_native_low'])} to {number(of['over_native_high'])}",
            "" if of["near_full_over_unlimited"] is None else number(of["near_full_over_unlimited"]),
        )
        for kind, of in numbers["kinds"].items()
    ]  # fmt: skip
    return text, ("memory is", "runs", "over native", "80 % of runs", "nearly full, over no limit"), table, 1


def _cliff(numbers: dict[str, Any]) -> _Parts:
    steps = numbers["steps"]
    text = (
        "The same convolutions share more or fewer matrices of 1 MiB, used in turn: computation is held, memory "
        f"varies. Between the last network that fits and the first that does not, latency rises "
        f"{_range(step['step'] for step in steps)} times. Above the step nearly every use of a page loads it, however "
        "little does not fit, and costs the same: what a use adds differs by a factor of "
        f"{_range(step['use_us_spread'] for step in steps)} among all networks above a step."
    )
    table: list[Row] = [
        (
            f"{step['epc_mib']:g} MiB", f"{step['last_fitting_mib']:.1f} MiB", milliseconds(step["last_fitting_ms"]),
            f"{step['first_paging_mib']:.1f} MiB", milliseconds(step["first_paging_ms"]), number(step["step"]),
            percent(step["loads_over_uses"]), f"{number(step['use_us'])} us",
        )
        for step in steps
    ]  # fmt: skip
    return text, ("EPC", "fits", "latency", "pages", "latency", "times", "uses that load", "a use adds"), table, 1


def _reuse(numbers: dict[str, Any]) -> _Parts:
    first = next(iter(numbers["curves"]))
    text = (
        "Pages that an inference loads, over the pages of its working set, at several occupations (working set over "
        "EPC). `cycle` begins again with the first, `back` turns round, `blocks` uses each piece of memory several "
        "times at once, `between` shares one matrix among all others. LRU is simulated, the pager does not have it."
    )
    table = [
        (
            curve["kind"], curve["order"], curve["policy"] + (" (simulated)" if curve["simulated"] else ""),
            *(f"{share:.2f}" for share in curve["at"].values()),
        )
        for curve in numbers["curves"]
    ]  # fmt: skip
    return text, ("memory is", "order", "policy", *first["at"]), table, 3


def _page_cost(numbers: dict[str, Any]) -> _Parts:
    low, high = numbers["intensity_flop_per_byte"]
    text = (
        f"What the limit adds to an inference, over the pages that it loads: {number(numbers['load_us'])} us in the "
        f"median of {count(numbers['n'])} over-committed runs, {number(numbers['load_us_low'])} to "
        f"{number(numbers['load_us_high'])} us for 80 % of them, and within 10 % of the median for "
        f"{percent(numbers['within_10_percent'])}, for networks of {number(low)} to {number(high)} FLOP per byte of "
        f"memory. Told apart by least squares, a load costs {number(numbers['fitted_load_us'])} us and a minor fault "
        f"{number(numbers['fitted_minor_fault_us'])} us."
    )
    table: list[Row] = [
        (what, str(name), f"{number(cost)} us")
        for what, costs in (
            ("memory is", "by_kind"),
            ("policy", "by_policy"),
            ("EPC, MiB", "by_epc_mib"),
            ("computation, GFLOP", "by_gflop"),
        )
        for name, cost in numbers[costs].items()
    ]
    return text, ("by", "", "a load"), table, 2


def _addition(numbers: dict[str, Any]) -> _Parts:
    text = (
        f"Native latency + loads x {number(numbers['load_us'])} us + minor faults x "
        f"{number(numbers['minor_fault_us'])} us, with both costs from the other sweeps, is within 10 % of the "
        f"measured latency for {percent(numbers['within_10_percent'])} of {count(numbers['n'])} over-committed runs "
        f"whose computation was varied; the median error is {percent(numbers['median_error'])}, the largest "
        f"{percent(numbers['largest_error'])}."
    )
    return text, (), [], 1


def _slowdown(numbers: dict[str, Any]) -> _Parts:
    text = (
        f"Of the same runs, latency over native latency goes from {number(numbers['least'])} to "
        f"{number(numbers['most'])}: by a factor of {number(numbers['range'])}. The best constant "
        f"({number(numbers['best_constant'])}) is within 10 % for {percent(numbers['constant_within_10_percent'])} of "
        f"them, with a median error of {percent(numbers['constant_median_error'])}."
    )
    table: list[Row] = [
        (
            point["kind"], f"{point['occupation']:.2f}", number(point["flop_per_byte"]),
            milliseconds(point["native_ms"]), milliseconds(point["latency_ms"]), number(point["slowdown"]),
        )
        for point in numbers["points"]
    ]  # fmt: skip
    return text, ("memory is", "occupation", "FLOP/byte", "native", "in the enclave", "times"), table, 1


def _batch(numbers: dict[str, Any]) -> _Parts:
    text = " ".join(
        f"{kind.capitalize()}: the working set is {number(of['without_images_mib'])} MiB + "
        f"{number(of['each_image_mib'])} MiB an image (weights: {number(of['weights_mib'])} MiB), to "
        f"{number(of['residual_mib'])} MiB."
        for kind, of in numbers["kinds"].items()
    )
    table: list[Row] = [
        (
            str(kind), count(batch), f"{of['working_set_mib'][index]:.1f} MiB",
            milliseconds(of["ms_per_image_native"][index]), milliseconds(of["ms_per_image_16_mib"][index]),
            count(of["loads_16_mib"][index]),
        )
        for kind, of in numbers["kinds"].items()
        for index, batch in enumerate(of["images"])
    ]  # fmt: skip
    header = ("memory is", "images", "working set", "native, an image", "with 16 MiB, an image", "loads")
    return text, header, table, 1


def _operators(numbers: dict[str, Any]) -> _Parts:
    added = {name: numbers[f"{name}_paging_ms"] - numbers[f"{name}_native_ms"] for name in ("own", "shared")}
    added_by_shared = max(0.0, added["shared"]) / (added["own"] + max(0.0, added["shared"]))
    text = (
        "Convolutions of equal size, every other one with a matrix of its own, the rest with one that all share: at an "
        f"occupation of {number(numbers['occupation'])} the first pay for their pages "
        f"({number(numbers['own_page_us'])} us each); the others take "
        f"{number(numbers['shared_paging_ms'] / numbers['shared_native_ms'])} times their native time, which is "
        f"{percent(added_by_shared)} of what paging adds to all of them."
    )
    table = [
        (what, *(milliseconds(numbers[f"{name}_{place}_ms"]) for place in ("native", "inside", "paging")))
        for what, name in (("its own", "own"), ("shared", "shared"))
    ]
    return text, ("matrix", "native", "fits", "pages"), table, 1


def _threads(numbers: dict[str, Any]) -> _Parts:
    text = (
        f"With {numbers['threads']} compute threads instead of one an inference loads {number(numbers['loads_ratio'])} "
        f"times as many pages and takes {number(numbers['native_ratio'])} times as long natively; a load costs "
        f"{number(numbers['load_us_more'])} us of wall time instead of {number(numbers['load_us_one'])} us of the "
        f"thread's own, over {count(numbers['n'])} pairs of runs."
    )
    return text, (), [], 1


def _range(values: Any) -> str:
    found = sorted(values)
    low, high = number(found[0]), number(found[-1])
    return low if low == high else f"{low} to {high}"


_WORDS: dict[str, tuple[str, str, str, Callable[[dict[str, Any]], _Parts]]] = {
    "inside": (
        "Inside the EPC", "",
        "So what a network takes natively, learned operator by operator, is the first part of a prediction.", _inside,
    ),
    "cliff": (
        "The cliff at the EPC", "latency",
        "So whether a network over-commits decides more than anything else, and a few MiB decide that.", _cliff,
    ),
    "reuse": (
        "Reuse and policy", "loads",
        "So pages are no function of sizes alone: accesses are simulated in their order, under the pager's own policy.",
        _reuse,
    ),
    "page-cost": (
        "What a page costs", "page-cost",
        "So one constant of the machine, calibrated once, turns pages into milliseconds.", _page_cost,
    ),
    "addition": (
        "Computation and paging add up", "addition",
        "So both parts are predicted apart, and each is checked against a measurement of its own.", _addition,
    ),
    "slowdown": (
        "No constant describes it", "slowdown", "So milliseconds are predicted, never a ratio to native latency.",
        _slowdown,
    ),
    "batch": (
        "Batch", "batch", "So memory is planned anew for each batch, not scaled: only activations grow.", _batch,
    ),
    "operators": (
        "Who pays", "", "So pages are charged to the operators that touch them, which is how advice can name layers.",
        _operators,
    ),
    "threads": (
        "Threads", "", "So paging is predicted as serial time, whatever the number of threads.", _threads,
    ),
}  # fmt: skip
