"""What is learned of the errors of predictions, on laws that are known."""

from __future__ import annotations

import numpy as np
import pytest

from made_features import of_kinds
from sectum.lab.learners.spread_learning import learn_spread
from sectum.ort.operators import KINDS

pytest.importorskip("scipy", reason="learning needs the extra train")
TRUE = {"conv": 0.03, "gemm": 0.06, "move": 0.2}
LONG_MS = 1e5


def networks(number: int, most_ms: float = LONG_MS, least_ms: float = LONG_MS):
    """Networks of three kinds in random shares, and how much of each network's time is of each kind."""
    chance = np.random.default_rng(0)
    shares = chance.dirichlet([0.5] * len(TRUE), number)
    totals = np.exp(chance.uniform(np.log(least_ms), np.log(most_ms), number))
    return [(of_kinds(*TRUE), row * total) for row, total in zip(shares, totals, strict=True)], shares, totals


def test_a_kind_whose_errors_are_larger_gets_a_larger_spread():
    """Of many networks, each kind gets about the size of its errors, whatever their sign."""
    seen, shares, _ = networks(600)
    signs = np.random.default_rng(1).choice([-1, 1], 600)
    sizes = shares @ list(TRUE.values())
    spread = learn_spread(seen, (sizes * signs).tolist())
    for kind, size in TRUE.items():
        assert spread.kinds[kind] == pytest.approx(max(size, sizes.mean() / 2), rel=0.15)
    assert spread.kinds["conv"] < spread.kinds["gemm"] < spread.kinds["move"]
    assert spread.short == pytest.approx(0, abs=0.01)


def test_short_inferences_get_more():
    """What is added to errors of short inferences is found, and makes their spread larger."""
    seen, shares, totals = networks(2000, 100.0, 0.01)
    spread = learn_spread(seen, (shares @ list(TRUE.values()) + 0.15 / (1 + totals)).tolist())
    assert spread.short == pytest.approx(0.15, rel=0.15)
    assert spread.of(of_kinds("gemm"), np.array([0.1])) > spread.of(of_kinds("gemm"), np.array([10.0])) + 0.08


def test_several_threads_get_more():
    """What is added to errors of runs with two threads is found."""
    seen, shares, _ = networks(400)
    sizes = shares @ list(TRUE.values())
    of_two = [(of_kinds(*TRUE, threads=2), times) for _, times in seen]
    spread = learn_spread([*seen, *of_two], [*sizes, *(sizes + 0.1)])
    assert spread.threads == pytest.approx(0.1, rel=0.1)


def test_no_kind_is_much_better_than_the_mean():
    """A kind without any error keeps half of the mean error: few networks are made of it alone."""
    seen, shares, _ = networks(500)
    sizes = shares @ [0.0, 0.06, 0.2]
    assert learn_spread(seen, sizes.tolist()).kinds["conv"] >= sizes.mean() / 2 * (1 - 1e-9)


def test_a_kind_that_few_networks_have_gets_the_largest_spread():
    """What was seldom or never seen is expected to be as wrong as the worst of those that were."""
    seen, shares, _ = networks(500)
    sizes = [*(shares @ list(TRUE.values())), 0.001]
    spread = learn_spread([*seen, (of_kinds("recurrent"), np.array([LONG_MS]))], sizes)
    largest = max(spread.kinds[kind] for kind in TRUE)
    assert all(spread.kinds[kind] == pytest.approx(largest) for kind in KINDS if kind not in TRUE)


def test_few_networks_say_little():
    """With hardly any networks, each kind has at least the mean error."""
    alone = [(of_kinds(kind), np.array([LONG_MS])) for kind in ("conv", "gemm")]
    spread = learn_spread(alone, [0.02, -0.06])
    assert all(size >= 0.04 * (1 - 1e-9) for size in spread.kinds.values())
