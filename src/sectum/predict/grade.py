"""How far a prediction can be trusted, in a word and a sentence."""

from __future__ import annotations

from collections import Counter

from sectum.errors import OperatorUnsupported
from sectum.predict.cost import InferenceCost
from sectum.predict.prediction import GUESS, MEASURED_KIND, NEAR_KIND, Grade
from sectum.predict.prepared import Prepared
from sectum.predict.support import NEAR, OUTSIDE

_MEASURED_SPREAD, _NEAR_SPREAD = 1.1, 2.5
"""Most over least latency because of operators that are not inside the support: up to the first the learned interval is
as wide anyway; beyond the second the latency is a guess."""
_NAMED = 3
_MOST_TEXT = 200


def grade(inference: InferenceCost) -> Grade:
    """Grade a prediction by the time that lies in operators not like those that were measured."""
    if inference.network.native_source == "given":
        return Grade(MEASURED_KIND, "The native latency is given.", 1.0)
    latency_ms, outside = inference.breakdown_ms.total, inference.outside_ms
    inside_ms = max(0.0, latency_ms - outside.predicted)
    spread = (inside_ms + outside.most) / max(inside_ms + outside.least, 1e-12)
    word = MEASURED_KIND if spread <= _MEASURED_SPREAD else NEAR_KIND if spread <= _NEAR_SPREAD else GUESS
    share = inside_ms / latency_ms if latency_ms > 0 else 1.0
    how_much = "All" if not outside.predicted else "Most" if share >= 0.995 else f"{100 * share:.0f} %"
    return Grade(word, f"{how_much} of the time is in operators of measured kinds.", share)


def notes_on_support(network: Prepared) -> list[str]:
    """Which operators are not inside the support, and why: first those that take longest."""
    found = []
    for support, said in (
        (OUTSIDE, "unlike those that were measured, so that operations and bytes only bound the time"),
        (NEAR, "near those that were measured"),
    ):
        n = sum(place.support == support for place in network.places)
        if n:
            found.append(f"{'1 operator is' if n == 1 else f'{n} operators are'} {said}: {_reasons(network, support)}")
    return found


def require_inside(network: Prepared) -> None:
    """Refuse a network with operators unlike those that were measured.

    Raises:
        OperatorUnsupported: there are some; the message says which and why.
    """
    n = sum(place.support == OUTSIDE for place in network.places)
    if n:
        raise OperatorUnsupported(
            f"{'1 operator is' if n == 1 else f'{n} operators are'} unlike those that were measured: "
            f"{_reasons(network, OUTSIDE)}. Leave out --strict to have their time bounded, or run 'sectum measure'"
        )


def _reasons(network: Prepared, support: str) -> str:
    counts: Counter[str] = Counter()
    times_ms: Counter[str] = Counter()
    operators = zip(network.features.types, network.places, network.native_ms.tolist(), strict=True)
    for operator_type, place, ms in operators:
        if place.support == support:
            why = place.why if place.why.startswith(operator_type) else f"{operator_type}: {place.why}"
            counts[why] += 1
            times_ms[why] += ms
    named = [
        why[:_MOST_TEXT] + (f" ({counts[why]} operators)" if counts[why] > 1 else "")
        for why, _ in times_ms.most_common(_NAMED)
    ]
    more = len(counts) - len(named)
    return "; ".join([*named, *([f"and for {more} more reason{'s' if more > 1 else ''}"] if more else [])])
