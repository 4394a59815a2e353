"""Operators that were timed in networks of no family: learned from beside the networks of a dataset.

A fold leaves networks out, with their relatives or their family. Operators drawn at random are nobody's relatives, so
every fold may learn from them, as the shipped models do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from sectum.lab.dataset.operator_campaign import OPERATOR_MIX
from sectum.lab.learners.operator_learning import (
    Observation,
    from_kind_campaign,
    from_operator_campaign,
    without_kinds,
)
from sectum.ort.cpu import Cpu

LAYOUT_KINDS = frozenset({"conv", "depthwise"})
"""Kinds of operators whose kernels differ from one kind of processor to another more than the GEMM reference kernel."""

LoneOperators = Mapping[Cpu, Sequence[Observation]]
"""By the kind of CPU that they were timed on, or stand in for."""


def lone_operators(data: Path, machines: Mapping[str, Cpu]) -> dict[Cpu, list[Observation]]:
    """Read the campaigns beside a dataset.

    Args:
        data: folder of the dataset. ``operators/MACHINE`` and ``kinds/MACHINE`` lie beside it, or do not.
        machines: of the dataset, with their kind of CPU.

    Returns:
        Operators of each kind of CPU; none where there is no campaign. Those of other kinds stand in for a machine
        without a campaign of kinds of its own.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: a shard is damaged.
    """
    found: dict[Cpu, list[Observation]] = {}
    for machine, cpu in sorted(machines.items()):
        operators, kinds = (data.parent / name / machine for name in ("operators", "kinds"))
        its = found.setdefault(cpu, [])
        if operators.is_dir():
            its += [one for one in from_operator_campaign(operators, cpu) if one.family == OPERATOR_MIX]
        if kinds.is_dir():
            its += from_kind_campaign(kinds, cpu)
        else:
            others = (data.parent / "kinds" / other for other in sorted(machines) if other != machine)
            its += [one for folder in others if folder.is_dir() for one in standing_in(folder, cpu)]
    return found


def standing_in(kinds: Path, cpu: Cpu) -> list[Observation]:
    """Operators of a campaign of kinds of another kind of processor, but those whose kernels differ too much."""
    some = (without_kinds(one, LAYOUT_KINDS) for one in from_kind_campaign(kinds, cpu))
    return [one for one in some if len(one.times)]


def campaigns_digest(data: Path) -> str:
    """SHA-256 of the campaigns beside a dataset: of the names and contents of their files."""
    digest = hashlib.sha256()
    for path in sorted(path for name in ("operators", "kinds") for path in (data.parent / name).glob("*/*.parquet")):
        digest.update(f"{path.relative_to(data.parent)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
