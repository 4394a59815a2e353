"""The study's observations in words: a heading, sentences with their numbers, what follows from them, and a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sectum.cli.render.figures import count, milliseconds, number, percent

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObservationText:
    """An observation in words.

    Attributes:
        name: that ``--only`` takes.
        title: what the numbers show; what was to be measured where there are none.
        text: what was measured.
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


def in_words(name: str, numbers: dict[str, Any] | None) -> ObservationText:
    """Put an observation into words; one that nothing was measured for says how to measure it."""
    topic, picture, consequence, tell = _WORDS[name]
    if numbers is None:
        how = "--threads 2 --cpu 0 --cpu 1` on a machine with two idle CPUs" if name == "threads" else "` measures it"
        text = f"Not measured here. `sectum study run{' ' if name == 'threads' else ''}{how}."
        return ObservationText(name, topic, text)
    title, text, header, table, names = tell(numbers)
    return ObservationText(name, title, text, consequence, header, tuple(table), names, picture)


_Parts = tuple[str, str, Row, list[Row], int]


def _inside(numbers: dict[str, Any]) -> _Parts:
    kinds = numbers["kinds"]
    title = f"While the working set fits, latency is {_range(of['over_native'] for of in kinds.values())} times native"
    text = (
        "Inferences that load no page: their latency over native latency; and, where 80 to 100 % of the EPC are in "
        "use, over the latency in an enclave without a limit."
    )
    table: list[Row] = [
        (
            str(kind), count(of["n"]), number(of["over_native"]),
            f"{number(of['over_native_low'])} to {number(of['over_native_high'])}",
            "" if of["near_full_over_unlimited"] is None else number(of["near_full_over_unlimited"]),
        )
        for kind, of in kinds.items()
    ]  # fmt: skip
    header = ("memory is", "runs", "over native", "80 % of runs", "nearly full, over no limit")
    return title, text, header, table, 1


def _cliff(numbers: dict[str, Any]) -> _Parts:
    steps = numbers["steps"]
    times = _range(step["step"] for step in steps)
    text = (
        "The same convolutions use more or fewer distinct matrices of 1 MiB in turn: computation is held, memory "
        f"varies. Between the last network that fits and the first that does not, latency rises {times} times. Above "
        "the EPC nearly every use of a page loads it, even where little does not fit. What a use adds differs by a "
        f"factor of {_range(step['use_us_spread'] for step in steps)} among all networks above one EPC."
    )
    table: list[Row] = [
        (
            f"{step['epc_mib']:g} MiB", f"{step['last_fitting_mib']:.1f} MiB", milliseconds(step["last_fitting_ms"]),
            f"{step['first_paging_mib']:.1f} MiB", milliseconds(step["first_paging_ms"]), number(step["step"]),
            percent(step["loads_over_uses"]), f"{number(step['use_us'])} us",
        )
        for step in steps
    ]  # fmt: skip
    header = ("EPC", "fits", "latency", "pages", "latency", "times", "uses that load", "a use adds")
    return f"Just above the EPC, latency is {times} times that just below", text, header, table, 1


def _reuse(numbers: dict[str, Any]) -> _Parts:
    columns = next(iter(numbers["curves"]))["at"]
    middle = min(columns, key=lambda ratio: abs(float(ratio) - _MIDDLE))
    shares = _range(curve["at"][middle] for curve in numbers["curves"])
    title = f"At working set / EPC {middle}, an inference loads {shares} times its working set, by order and policy"
    text = (
        "Pages that an inference loads, over the pages of its working set, at several ratios of working set to EPC. "
        "Orders of access: `cycle` starts again with the first piece of memory, `back` goes through them in reverse, "
        "`blocks` uses each piece several times in a row, `between` uses one shared matrix between all others. LRU is "
        "simulated, because the pager does not have it."
    )
    table = [
        (
            curve["kind"], curve["order"], curve["policy"] + (" (simulated)" if curve["simulated"] else ""),
            *(f"{share:.2f}" for share in curve["at"].values()),
        )
        for curve in numbers["curves"]
    ]  # fmt: skip
    return title, text, ("memory is", "order", "policy", *columns), table, 3


def _page_cost(numbers: dict[str, Any]) -> _Parts:
    low, high = numbers["intensity_flop_per_byte"]
    range_us = f"{number(numbers['load_us_low'])} to {number(numbers['load_us_high'])} us"
    text = (
        f"What the limit adds to an inference, over the pages that it loads: {number(numbers['load_us'])} us in the "
        f"median of {count(numbers['n'])} over-committed runs, {range_us} for 80 % of them, and within 10 % of the "
        f"median for {percent(numbers['within_10_percent'])}, for networks of {number(low)} to {number(high)} FLOP per "
        f"byte of memory. A least-squares fit with two costs gives {number(numbers['fitted_load_us'])} us for a "
        f"load and {number(numbers['fitted_minor_fault_us'])} us for a minor fault."
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
    return f"A page load costs {range_us} in 80 % of runs", text, ("by", "", "a load"), table, 2


def _addition(numbers: dict[str, Any]) -> _Parts:
    error = percent(numbers["median_error"])
    biases = " and ".join(
        f"{percent(abs(bias))} too {'low' if bias < 0 else 'high'} for {kind}"
        for kind, bias in numbers["bias_by_kind"].items()
    )
    text = (
        f"Native latency + loads x {number(numbers['load_us'])} us + minor faults x "
        f"{number(numbers['minor_fault_us'])} us, with both costs fitted to the other sweeps, is within 10 % of the "
        f"measured latency for {percent(numbers['within_10_percent'])} of {count(numbers['n'])} over-committed runs "
        f"whose computation was varied. The median error is {error}, the largest {percent(numbers['largest_error'])}. "
        f"In the median the sum is {biases}."
    )
    return f"Native latency plus page costs misses measured latency by {error} in the median", text, (), [], 1


def _slowdown(numbers: dict[str, Any]) -> _Parts:
    least, most = number(numbers["least"]), number(numbers["most"])
    text = (
        f"Over the same runs, latency over native latency goes from {least} to {most}: a factor of "
        f"{number(numbers['range'])}. The best constant ({number(numbers['best_constant'])}) is within 10 % for "
        f"{percent(numbers['constant_within_10_percent'])} of them, with a median error of "
        f"{percent(numbers['constant_median_error'])}."
    )
    table: list[Row] = [
        (
            point["kind"], f"{point['working_set_over_epc']:.2f}", number(point["flop_per_byte"]),
            milliseconds(point["native_ms"]), milliseconds(point["latency_ms"]), number(point["slowdown"]),
        )
        for point in numbers["points"]
    ]  # fmt: skip
    header = ("memory is", "working set / EPC", "FLOP/byte", "native", "in the enclave", "times")
    return f"Over-committed networks take {least} to {most} times their native latency", text, header, table, 1


def _batch(numbers: dict[str, Any]) -> _Parts:
    kinds = numbers["kinds"]
    each = " or ".join(f"{number(of['each_image_mib'])} MiB ({kind})" for kind, of in kinds.items())
    text = " ".join(
        f"{kind.capitalize()}: the working set is {number(of['without_images_mib'])} MiB, plus "
        f"{number(of['each_image_mib'])} MiB for each image, to within {number(of['residual_mib'])} MiB; the weights "
        f"are {number(of['weights_mib'])} MiB."
        for kind, of in kinds.items()
    )
    table: list[Row] = [
        (
            str(kind), count(batch), f"{of['working_set_mib'][index]:.1f} MiB",
            milliseconds(of["ms_per_image_native"][index]), milliseconds(of["ms_per_image_16_mib"][index]),
            count(of["loads_16_mib"][index]),
        )
        for kind, of in kinds.items()
        for index, batch in enumerate(of["images"])
    ]  # fmt: skip
    header = ("memory is", "images", "working set", "native, an image", "with 16 MiB, an image", "loads")
    return f"Each image of a batch adds {each} to the working set", text, header, table, 1


def _operators(numbers: dict[str, Any]) -> _Parts:
    own_share = percent(1 - numbers["shared_share"])
    text = (
        "Convolutions of equal size: every other one has a matrix of its own, the rest share one matrix. At working "
        f"set / EPC {number(numbers['working_set_over_epc'])}, paging adds {number(numbers['own_page_us'])} us to the "
        "first for each of their pages. The others take "
        f"{number(numbers['shared_paging_ms'] / numbers['shared_native_ms'])} times their native time, which is "
        f"{percent(numbers['shared_share'])} of what paging adds to all of them."
    )
    table = [
        (what, *(milliseconds(numbers[f"{name}_{place}_ms"]) for place in ("native", "inside", "paging")))
        for what, name in (("its own", "own"), ("shared", "shared"))
    ]
    title = f"Operators whose weights are paged bear {own_share} of what paging adds"
    return title, text, ("matrix", "native", "fits", "pages"), table, 1


def _threads(numbers: dict[str, Any]) -> _Parts:
    one_us, more_us = number(numbers["load_us_one"]), number(numbers["load_us_more"])
    text = (
        f"With {numbers['threads']} compute threads instead of one, an inference loads "
        f"{number(numbers['loads_ratio'])} times as many pages and takes {number(numbers['native_ratio'])} times as "
        f"long natively. A load costs {more_us} us of wall time instead of {one_us} us, over "
        f"{count(numbers['n'])} pairs of runs."
    )
    return f"With {numbers['threads']} threads a page load costs {more_us} us instead of {one_us} us", text, (), [], 1


def _range(values: Any) -> str:
    found = sorted(values)
    low, high = number(found[0]), number(found[-1])
    return low if low == high else f"{low} to {high}"


_MIDDLE = 1.35
"""Working set / EPC at which the heading compares orders and policies, or the nearest that was measured."""
_WORDS: dict[str, tuple[str, str, str, Callable[[dict[str, Any]], _Parts]]] = {
    "inside": (
        "Latency while the working set fits", "",
        "So a prediction starts from native latency, which is learned operator by operator.", _inside,
    ),
    "cliff": (
        "Latency around the EPC", "latency",
        "So the first question is whether a network over-commits, and a few MiB decide it.", _cliff,
    ),
    "reuse": (
        "Order of access and replacement policy", "loads",
        "So sizes alone do not tell how many pages are loaded: accesses are simulated in their order, under the "
        "pager's own policy.", _reuse,
    ),
    "page-cost": (
        "Cost of a page load", "page-cost",
        "So page counts are turned into milliseconds by constants of the machine, calibrated once. The spread above is "
        "what that leaves out.", _page_cost,
    ),
    "addition": (
        "Native latency plus page costs", "addition",
        "So native latency and paging are predicted separately and added. The error of the sum is part of every "
        "prediction for an over-committed network.", _addition,
    ),
    "slowdown": (
        "Slowdown", "slowdown", "So milliseconds are predicted, never a ratio to native latency.", _slowdown,
    ),
    "batch": (
        "Batch size", "batch", "So memory is planned anew for each batch size instead of scaled.", _batch,
    ),
    "operators": (
        "Paging of single operators", "",
        "So pages are charged to the operators that touch them. That is how advice can name layers.", _operators,
    ),
    "threads": (
        "Compute threads", "", "So paging is predicted as serial time, whatever the number of threads.", _threads,
    ),
}  # fmt: skip
