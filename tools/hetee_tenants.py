"""Serves many tenants one after another on the same accelerators, and searches for what one leaves to the next.

Run it from a checkout as root, with the extra ``hetee`` installed::

    .venv/bin/python tools/hetee_tenants.py --tenants 1000

Each tenant has all accelerators of the rack. Its model, its inputs and its outputs are full of canaries, which name the
tenant. When it has its answers, the memory of every process of the service is searched, and every file that they have
open, and the rack's folder: the canaries of this tenant must be in its worker (or the search would be blind), and
those of no other tenant anywhere. Tenants end in turn by closing, by closing with batches in flight, by hanging up,
and by the death of their worker. The program prints JSON. Its exit code is 0; or 1 if anything was wrong; or 2 if this
user may not look into processes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetee_rack import Rack, may_look_into_processes, memory_of, until
from sectum.hetee.client import Session
from sectum.hetee.errors import HeteeError

TENANTS, ACCELERATORS = 1000, 2
MOST_TENANTS = (1 << 13) - 1
ENDS = ("closes", "closes with batches in flight", "hangs up", "its worker is killed")
KINDS = {1: "input", 2: "output", 3: "model"}
_SHAPE = (1, 512, 8)
_FILE_BYTES = 64 << 20
_LATE_S = 120.0


class Canary:
    """Numbers that occur in the models, the inputs and the outputs of tenants, and nowhere else.

    Each is eight bytes: six that are the same in all, and then two that say whose it is and what. So each number that
    is left says where it comes from, also when its neighbours were overwritten.

    Args:
        seed: of the six bytes.

    Attributes:
        mark: the six bytes, as the number that they are in the low bytes of a canary.
    """

    def __init__(self, seed: int) -> None:
        self.mark = int(np.random.default_rng(seed).integers(1 << 47, 1 << 48))
        self._needle = self.mark.to_bytes(6, "little")

    def numbers(self, tenant: int, kind: int) -> NDArray[np.int64]:
        """Canaries of one of `KINDS`, int64 [1, 512, 8]."""
        return np.full(_SHAPE, self.mark + ((4 * tenant + kind) << 48), np.int64)

    def model(self, tenant: int) -> bytes:
        """A model full of canaries, whose ``y`` is ``x`` + 2**48 where ``x`` > 0: it makes an output of an input."""
        from onnx import TensorProto, helper

        constants = {"zero": np.array(0), "one": np.array(1 << 48), "constant": self.numbers(tenant, 3)}
        held = [helper.make_tensor(n, TensorProto.INT64, a.shape, a.tobytes(), raw=True) for n, a in constants.items()]
        values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", *_SHAPE[1:]]) for name in "xy"]
        nodes = [
            helper.make_node("Greater", ["x", "zero"], ["positive"]),
            helper.make_node("Add", ["x", "one"], ["sum"]),
            helper.make_node("Where", ["positive", "sum", "constant"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "canary", values[:1], values[1:], held)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        return bytes(made.SerializeToString())

    def found(self, content: bytes) -> set[int]:
        """What is behind each mark in these bytes: four times the number of a tenant, and one of `KINDS`."""
        codes, at = set(), content.find(self._needle)
        while at >= 0:
            at += len(self._needle)
            codes.add(content[at : at + 2])
            at = content.find(self._needle, at)
        return {int.from_bytes(code, "little") for code in codes}


def open_files(pid: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, and each piece of shared memory, that a process has open."""
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if link.is_file():  # not a socket, pipe or device
                    with link.open("rb") as file:
                        yield str(link.readlink()), file.read(_FILE_BYTES)


class Search:
    """Searches all that the processes of a rack hold.

    Args:
        rack: the rack.
        canary: what is searched for.

    Attributes:
        searched_bytes: how much was searched so far.
        damaged: canaries in workers whose last two bytes name no tenant of this run, because they were overwritten.
        left: canaries that were found where they may not be, as sentences.
    """

    def __init__(self, rack: Rack, canary: Canary) -> None:
        self._rack, self._canary = rack, canary
        self.searched_bytes = self.damaged = 0
        self.left: list[str] = []

    def run(self, tenant: int, worker: int | None) -> set[str]:
        """Search while this tenant is served by the process ``worker``, or, with None, when all tenants are gone.

        Returns:
            The kinds of the tenant's own canaries in its worker.
        """
        own: set[int] = set()
        for pid in self._rack.pids():
            for place, content in self._places(pid):
                found = self._search(content)
                if pid == worker:
                    own |= {code for code in found if code // 4 == tenant}
                    known = {code for code in found if code // 4 < tenant and code % 4}
                    self.damaged += len(found - known - own)
                    found = known
                self._report(found, f"in {place} of process {pid}, when tenant {tenant} was served")
        for path in self._rack.paths.directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                self._report(self._search(path.read_bytes()), f"in the file {path.name}")
        return {KINDS[code % 4] for code in own if code % 4}

    def _places(self, pid: int) -> Iterator[tuple[str, bytes]]:
        for region in memory_of(pid, libraries=False):
            yield "memory", region
        yield from open_files(pid)

    def _report(self, codes: set[int], where: str) -> None:
        self.left += [f"{KINDS.get(code % 4, 'something')} of tenant {code // 4} {where}" for code in sorted(codes)]

    def _search(self, content: bytes) -> set[int]:
        self.searched_bytes += len(content)
        return self._canary.found(content)


def end(session: Session, how: str, worker: int, inputs: NDArray[np.int64]) -> None:
    """End a tenant's session in one of `ENDS`."""
    if how == "closes":
        session.close()
        return
    with suppress(HeteeError):
        for _ in range(4):
            session.submit(inputs)
        if how == "its worker is killed":
            os.kill(worker, signal.SIGKILL)
        elif how == "hangs up":
            session._transport.close()
    with suppress(HeteeError):
        session.close(0)


def run(tenants: int = TENANTS, accelerators: int = ACCELERATORS, seed: int = 1) -> dict[str, Any]:
    """Serve the tenants; returns the results."""
    canary, began_s = Canary(seed), time.monotonic()
    used: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    with Rack(f"cpu={accelerators}", arguments=["--spares", "2"]) as rack:
        search, policy = Search(rack, canary), rack.policy
        for tenant in range(1, tenants + 1):
            session = rack.connect(policy=policy, count=accelerators, wait_s=_LATE_S)
            worker, inputs = rack.serving_pid(), canary.numbers(tenant, 1)
            session.load(canary.model(tenant))
            answers = [session.submit(inputs) for _ in range(2 * accelerators)]
            for answer in answers:
                if not np.array_equal(answer.result().outputs["y"], canary.numbers(tenant, 2)):
                    wrong.append(f"tenant {tenant} got another's result")
                used[answer.result().receipt.accelerator] += 1
            if missing := set(KINDS.values()) - search.run(tenant, worker):
                wrong.append(f"the search is blind: tenant {tenant} has {', '.join(sorted(missing))}, not found")
            how = ENDS[tenant % len(ENDS)]
            ends[how] += 1
            end(session, how, worker, inputs)
            until(lambda pid=worker: not Path(f"/proc/{pid}").exists(), _LATE_S, "the end of the worker")  # type: ignore[misc]
        search.run(tenants, None)
    return {
        "tenants": tenants,
        "seed": seed,
        "accelerators": dict(sorted(used.items())),
        "ends": dict(ends),
        "searched_gib": round(search.searched_bytes / (1 << 30), 2),
        "seconds": round(time.monotonic() - began_s, 1),
        "canaries_damaged": search.damaged,
        "wrong": wrong + search.left,
    }


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=TENANTS, metavar="N", help=f"tenants (default {TENANTS})")
    parser.add_argument(
        "--accelerators", type=int, default=ACCELERATORS, metavar="N", help=f"CPU accelerators (default {ACCELERATORS})"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the canaries (default 1)")
    arguments = parser.parse_args()
    if not may_look_into_processes():
        print("looking into the memory of other processes needs root: run it as root", file=sys.stderr)
        return 2
    if not 0 < arguments.tenants <= MOST_TENANTS:
        parser.error(f"{arguments.tenants} tenants, expected 1 to {MOST_TENANTS}")
    found = run(arguments.tenants, arguments.accelerators, arguments.seed)
    print(json.dumps(found, indent=2))
    return int(bool(found["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
