"""Mutants of all untrusted input are refused; tools/hetee_mutations.py runs many more."""

from __future__ import annotations

import random

from hetee_mutations import mutate, run, targets


def test_mutants_are_refused() -> None:
    """No mutant crashes or hangs a parser, grows its memory, or is accepted as something that nobody sent."""
    outcome = run(20_000, seed=1)
    assert not outcome.found, "\n".join(outcome.found[:10])
    # Every target was really aimed at, and refused most of what it got, with more than one kind of refusal.
    for name, verdicts in outcome.verdicts.items():
        assert verdicts.total() >= 100, name
        assert verdicts["accepted"] < verdicts.total() * 3 // 4, name
        assert len(verdicts) >= 2, name


def test_mutants_are_mutants() -> None:
    """Mutation changes nearly everything that it is given, and the same seed gives the same mutants."""
    seeds = [seed for target in targets().values() for seed in target.seeds]
    assert min(map(len, seeds)) > 10
    chance = random.Random(3)
    assert sum(mutate(seed, seeds[0], chance) != seed for seed in seeds for _ in range(50)) > 45 * len(seeds)
    assert mutate(seeds[0], seeds[1], random.Random(9)) == mutate(seeds[0], seeds[1], random.Random(9))
