"""A whole service in processes of its own, for tests that need a real one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from sectum.hetee.bench.local_rack import LocalRack, free_port
from sectum.hetee.errors import HeteeError
from sectum.hetee.verification.policy import Policy

__all__ = [
    "Rack",
    "adding_model",
    "error_within",
    "found_in_memory",
    "free_port",
    "may_look_into_processes",
    "memory_of",
    "until",
]


def until(true: Callable[[], Any], limit_s: float = 30.0, what: str = "the condition") -> Any:
    """Wait until ``true()`` returns something true, and return it.

    Raises:
        AssertionError: it did not within the limit.
    """
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {limit_s:g} s")


class Rack(LocalRack):
    """A `LocalRack` that also restarts roles that die, and reads the log of all roles."""

    def __enter__(self) -> Rack:
        super().__enter__()
        self._stopped = threading.Event()
        self._keeper = threading.Thread(target=self.launcher.run, args=(self._stopped.is_set,), daemon=True)
        self._keeper.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        self._keeper.join()
        super().__exit__(kind, error, at)

    def changed_policy(self, **changes: Any) -> Policy:
        """A policy that accepts exactly this rack, but for the changed fields."""
        return msgspec.structs.replace(self.policy, **changes)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines with an event of this name."""
        return [event for event in self.log(f'"{name}"') if event["event"] == name]

    def log(self, text: str = "") -> Iterator[dict[str, Any]]:
        """All lines of the log, or those with a text in them; a log is read again and again, and may be long."""
        for line in self.paths.log.read_text().splitlines():
            if text in line:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def serving_pid(self) -> int:
        """The process id of the worker that was assigned last."""
        return int(self.events("vouched")[-1]["pid"])


def adding_model() -> bytes:
    """A model that adds one to rows of 64 numbers, so that a result shows which batch it belongs to."""
    from onnx import TensorProto, helper

    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    node = helper.make_node("Add", ["x", "one"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 64]) for name in "xy"]
    graph = helper.make_graph([node], "add", values[:1], values[1:], [one])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())


def memory_of(pid: int, *, libraries: bool = True) -> Iterator[bytes]:
    """The readable memory of a process, region by region; nothing of one that has ended.

    Args:
        pid: id of the process.
        libraries: whether to read private mappings of files that are not writable, which hold what the files do.

    Raises:
        PermissionError: this user may not read it.
    """
    process = Path(f"/proc/{pid}")
    with (
        contextlib.suppress(FileNotFoundError),
        (process / "maps").open() as maps,
        (process / "mem").open("rb", buffering=0) as memory,
    ):
        for line in maps.readlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if match is None or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            if not libraries and re.match(r"\S+ r-.p .* /(?!memfd:|dev/)", line):
                continue
            begin, end = int(match[1], 16), int(match[2], 16)
            with contextlib.suppress(OSError, ValueError, OverflowError):
                memory.seek(begin)
                yield memory.read(end - begin)


def found_in_memory(pid: int, needles: dict[str, bytes]) -> set[str]:
    """The names of the needles that are somewhere in the memory of a process."""
    return {name for region in memory_of(pid) for name, needle in needles.items() if needle in region}


def error_within(seconds: float, act: Callable[[], Any]) -> tuple[Any, HeteeError | None, float]:
    """Call ``act``, which must end in time; returns its result or its error, and the seconds that it took."""
    begun_s = time.monotonic()
    try:
        result, error = act(), None
    except HeteeError as caught:
        result, error = None, caught
    took_s = time.monotonic() - begun_s
    assert took_s <= seconds, f"{took_s:.2f} s, at most {seconds} were allowed"
    return result, error, took_s


def may_look_into_processes() -> bool:
    """Whether this user may read the memory of processes that forbid core dumps."""
    return os.geteuid() == 0
