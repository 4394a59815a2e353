"""Which networks are learned from and which are predicted, so that no near relative of a network is on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.lab.training.measured import MeasuredNetwork

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Fold:
    """Indices of networks.

    Attributes:
        name: of what is predicted.
        train: to learn from.
        test: to predict.
    """

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]


def relatives(networks: Sequence[MeasuredNetwork]) -> NDArray[np.int64]:
    """Number of each network's group, shape ``(networks,)``; see `MeasuredNetwork` for what the digests mean.

    Networks are in one group if they share the structure, the topology, or the key that they were drawn by (the same
    network measured again or elsewhere), or if others between them do.
    """
    leader = list(range(len(networks)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    seen: dict[Hashable, int] = {}
    for index, network in enumerate(networks):
        drawn = network.key.partition("#")[0]
        for mark in (("structure", network.structure), ("topology", network.topology), ("key", drawn)):
            leader[find(seen.setdefault(mark, index))] = find(index)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(find(index), len(numbers)) for index in range(len(networks))], dtype=np.int64)


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
    """Each family is predicted by what was learned from all others, its relatives among them left out."""
    return _left_out(networks, lambda network: network.family)


def other_machines(networks: Sequence[MeasuredNetwork]) -> list[Fold]:
    """Each machine is predicted by what was learned on the others, from networks that are no relatives."""
    return _crossed(networks, lambda network: network.machine)


def other_days(networks: Sequence[MeasuredNetwork]) -> list[Fold]:
    """Each day (UTC) is predicted by what was learned on the others, from networks that are no relatives."""
    return _crossed(networks, lambda network: network.date[:10])


def _left_out(networks: Sequence[MeasuredNetwork], trait: Callable[[MeasuredNetwork], str]) -> list[Fold]:
    groups = relatives(networks)
    first = np.array([not network.is_repeat for network in networks], dtype=bool)
    traits = np.array([trait(network) for network in networks])
    folds = []
    for name in sorted(set(traits[first].tolist())):
        test = first & (traits == name)
        train = first & (traits != name) & ~np.isin(groups, groups[test])
        if train.any():
            folds.append(Fold(name, tuple(np.flatnonzero(train).tolist()), tuple(np.flatnonzero(test).tolist())))
    return folds


def _crossed(networks: Sequence[MeasuredNetwork], trait: Callable[[MeasuredNetwork], str]) -> list[Fold]:
    """Machines may have measured the same networks: those of one random fold are predicted from the other folds'."""
    numbers = fold_numbers(networks)
    traits = np.array([trait(network) for network in networks])
    folds = []
    for name in sorted(set(traits[numbers >= 0].tolist())):
        for number in range(FOLDS):
            test = (numbers == number) & (traits == name)
            train = (numbers >= 0) & (numbers != number) & (traits != name)
            if train.any() and test.any():
                indices = (tuple(np.flatnonzero(mask).tolist()) for mask in (train, test))
                folds.append(Fold(f"{name}, fold {number + 1}", *indices))
    return folds
