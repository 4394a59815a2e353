"""Networks that nobody measured, with the working set that the page-replacement model gives them: to learn from first.

Nothing is ever judged by them. They are kept in one Parquet file, which is gone on with where it is too short.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sectum import zoo
from sectum.errors import DatasetInvalid, UsageError
from sectum.lab.dataset.campaign import tasks
from sectum.lab.dataset.task import DIGEST_CHARACTERS, identity
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.page_trace import page_trace
from sectum.units import PAGE_BYTES

SEED = 1_000_003
"""Of the networks drawn. Campaigns have small seeds, so that theirs are others."""

_KIND = "sectum.simulated-working-sets.1/{}"
_CHUNK = 200


@dataclass(frozen=True)
class SimulatedNetwork:
    """One network.

    Attributes:
        family: that it belongs to.
        structure: digest of structure and batch: equal networks share it.
        topology: digest that near relatives share.
        batch: images in an inference.
        graph: what the runtime executes, as `sectum.ort.stored` writes it.
        page_model_bytes: simulated working set, one compute thread.
    """

    family: str
    structure: str
    topology: str
    batch: int
    graph: str
    page_model_bytes: int


def simulate(nchwc_block: int, seed: int = SEED) -> Iterator[SimulatedNetwork]:
    """Networks without end, drawn as a campaign draws them, each structure once; the same for the same seed.

    Args:
        nchwc_block: floats in a block of the runtime's blocked layout.
        seed: of the draws.
    """
    seen: set[str] = set()
    for task in tasks(seed):
        architecture = task.architecture()
        what = identity(zoo.structure(architecture), task.batch)
        if what in seen:
            continue
        seen.add(what)
        runtime = optimize(zoo.to_graph(architecture, task.batch), Cpu.of_block(nchwc_block))
        yield SimulatedNetwork(
            family=task.family,
            structure=what,
            topology=zoo.topology(architecture)[:DIGEST_CHARACTERS],
            batch=task.batch,
            graph=stored.dumps(runtime),
            page_model_bytes=page_trace(runtime).pages * PAGE_BYTES,
        )


def read(path: Path, nchwc_block: int) -> list[SimulatedNetwork]:
    """Networks of a file, which has to be of this blocked layout.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: no such file, or another one.
    """
    parquet = _parquet()
    try:
        table = parquet.read_table(path)
        if (table.schema.metadata or {}).get(b"kind") != _KIND.format(nchwc_block).encode():
            raise DatasetInvalid(
                f"{path} holds no simulated networks of this version and layout: delete it, it is made again"
            )
        return [SimulatedNetwork(**row) for row in table.to_pylist()]
    except (OSError, ValueError, TypeError) as error:
        raise DatasetInvalid(f"{path}: {error}; delete it, it is made again") from error


def make(path: Path, networks: int, nchwc_block: int, seed: int = SEED) -> list[SimulatedNetwork]:
    """Read a file, go on with it until it holds as many networks, and give these; it is written now and then.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: the file is another one.
    """
    made = read(path, nchwc_block) if path.exists() else []
    planned = itertools.islice(simulate(nchwc_block, seed), len(made), networks) if len(made) < networks else iter(())
    while chunk := list(itertools.islice(planned, _CHUNK)):
        made += chunk
        _write(path, made, nchwc_block)
        print(f"{path}: {len(made)} of {networks} networks", file=sys.stderr)  # noqa: T201 - a training script
    return made[:networks]


def _write(path: Path, networks: Sequence[SimulatedNetwork], nchwc_block: int) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist([asdict(one) for one in networks])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    kind = {"kind": _KIND.format(nchwc_block)}
    _parquet().write_table(table.replace_schema_metadata(kind), partial, compression="zstd")
    partial.replace(path)


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("simulated networks are stored as Parquet: pip install 'sectum[train]'") from error
    return pyarrow.parquet
