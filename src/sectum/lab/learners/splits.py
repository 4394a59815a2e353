"""Splits into training and held-out networks, with no near relatives on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.lab.learners.measured import MeasuredNetwork

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Fold:
    """Indices of networks."""

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]


def relatives(networks: Sequence[MeasuredNetwork]) -> NDArray[np.int64]:
    """Number of each network's group, shape ``(networks,)``; see `MeasuredNetwork` for what the digests mean.

    Networks are in one group if they share the structure, the topology, or the key that they were drawn by (the same
    network measured again or elsewhere), or if others between them do.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first: dict[Hashable, int] = {}
    pairs = []
    for index, network in enumerate(networks):
        drawn = network.key.partition("#")[0]
        for mark in (("structure", network.structure), ("topology", network.topology), ("key", drawn)):
            pairs.append((first.setdefault(mark, index), index))
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs)), tuple(ends)), shape=(len(networks), len(networks)))
    groups: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def random_folds(networks: Sequence[MeasuredNetwork], *, folds: int = FOLDS, seed: int = 0) -> list[Fold]:
    """Each network is predicted once, by what was learned from the other folds; families are spread evenly.

    Returns:
        At most ``folds`` folds; fewer where there are fewer groups of relatives. Repeats are in none.
    """
    numbers = fold_numbers(networks, folds=folds, seed=seed)
    drawn = [
        Fold(
            f"fold {number + 1}",
            tuple(np.flatnonzero((numbers >= 0) & (numbers != number)).tolist()),
            tuple(np.flatnonzero(numbers == number).tolist()),
        )
        for number in range(folds)
    ]
    return [fold for fold in drawn if fold.train and fold.test]


def fold_numbers(networks: Sequence[MeasuredNetwork], *, folds: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Fold of each network, shape ``(networks,)``; -1 for one that had been measured before."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(relatives(networks).tolist()):
        if not networks[index].is_repeat:
            members[group].append(index)
    # Large groups first: they can still be made up for. Among equals, chance decides.
    order = sorted(members)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))
    numbers = np.full(len(networks), -1, dtype=np.int64)
    sizes = [0] * folds
    of_family: list[Counter[str]] = [Counter() for _ in range(folds)]
    for group in order:
        families = Counter(networks[index].family for index in members[group])
        chosen = min(range(folds), key=lambda fold: (sum(of_family[fold][f] for f in families), sizes[fold]))
        numbers[members[group]] = chosen
        sizes[chosen] += len(members[group])
        of_family[chosen] += families
    return numbers


def leave_family_out(networks: Sequence[MeasuredNetwork]) -> list[Fold]:
    """Each family is predicted by what was learned from all others; relatives of it in others are left out."""
    groups = relatives(networks)
    first = np.array([not network.is_repeat for network in networks], dtype=bool)
    families = np.array([network.family for network in networks])
    folds = []
    for name in sorted(set(families[first].tolist())):
        test = first & (families == name)
        train = first & (families != name) & ~np.isin(groups, groups[test])
        if train.any():
            folds.append(Fold(name, tuple(np.flatnonzero(train).tolist()), tuple(np.flatnonzero(test).tolist())))
    return folds
