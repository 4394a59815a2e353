"""Checks on a GPU what a CPU cannot show, within ten minutes; ``scripts/gpu-check`` sets up what it needs and runs it.

- *conformance*: the suite of accelerators, on ``cuda:0``.
- *reset*: numbers that were computed on are not found in the GPU's memory by the next process.
- *service*: the same for a tenant of a real rack, when the session has ended.
- *inference*: the five networks in batches of 8, really computed, against the plain baseline.
- *training*: steps of ResNet-50 on batches of 8, really computed, against the plain baseline.

It writes gpu-check.json and gpu-check.txt. Its exit code is 0 if all passed; 1 if something did not, or the time was
over; 2 if software is missing; 3 if there is no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_residue import TENANT
from hetee_tenants import Canary
from sectum.errors import SectumError

ROOT = Path(__file__).parents[1]
NETWORKS = ("VGG16", "GoogLeNet", "ResNet50", "ResNet101", "ResNet152")
PASSED, FAILED, UNUSABLE, NO_GPU = 0, 1, 2, 3
SECONDS, SEED, BATCH = 600.0, 1, 8
_FACTS = ("name", "driver_version", "memory.total", "pci.bus_id", "compute_mode", "mig.mode.current")
_ASK_S = 30.0
_SHOWN = ("throughput_overhead_pct", "over_baseline_pct", "images_per_s")


class NotPassed(Exception):
    """A check did not pass; the text says why."""


def gpus() -> list[dict[str, str]]:
    """What ``nvidia-smi`` says of each GPU; empty if there is none."""
    ask = ["nvidia-smi", f"--query-gpu={','.join(_FACTS)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=_ASK_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in said.splitlines()]
    return [dict(zip(_FACTS, row, strict=True)) for row in rows if len(row) == len(_FACTS)]


def unusable() -> str | None:
    """Why the installed software cannot use a GPU; None if it can."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "this ONNX Runtime was not built for CUDA: run scripts/gpu-check, which installs onnxruntime-gpu"
    import torch

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no CUDA device: install one that is built for this driver's CUDA"
    return None


def context(found: list[dict[str, str]]) -> dict[str, Any]:
    """The GPUs, the machine, the versions, the commit and the seed."""
    import torch

    from sectum.hetee.bench.context import machine

    about = machine()
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    about["versions"] |= versions
    return about | {
        "gpus": found,
        "commit": commit.strip() or "unknown: no git repository",
        "changed_files": len(changed.splitlines()),
        "seed": SEED,
        "evidence": "software: no hardware protects this",
    }


class Clock:
    """Divides the time that is left among the checks.

    Args:
        seconds: in all.
    """

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self._end_s - time.monotonic()

    def started(self) -> Clock:
        """Check that a check may still begin; returns the clock.

        Raises:
            NotPassed: the time was over.
        """
        if self.left_s <= 0:
            raise NotPassed("the time was over before it began")
        return self

    def run(self, *words: str) -> str:
        """Run a Python program from the checkout; returns its standard output.

        Raises:
            NotPassed: it failed, or the time was over.
        """
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tools", ROOT / "tests/support")))}
        try:
            done = subprocess.run(
                [sys.executable, *words],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=max(self.left_s, 1.0),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotPassed("the time was over before it had ended") from None
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-2000:]
            raise NotPassed(f"it ended with exit code {done.returncode}: {said}")
        return done.stdout


def conformance(clock: Clock) -> dict[str, Any]:
    """Run the suite of accelerators on the GPU; a skipped test counts as not passed."""
    said = clock.run("-m", "pytest", "-q", "-k", "TestCuda", "tests/conformance/hetee/test_accelerators.py")
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|skipped|failed|error)", said)}
    if set(counts) != {"passed"}:
        raise NotPassed(f"of the suite's tests, {counts or 'none'} ended so")
    return counts


def reset(clock: Clock) -> dict[str, Any]:
    """Compute on numbers, reset the accelerator, and search for them in the same process and in the next."""
    before = json.loads(clock.run("tools/gpu_residue.py", "plant", "--seed", str(SEED)))
    if not before["computed"]:
        raise NotPassed("the GPU computed something else than the CPU would")
    return {"in the same process, for comparison": before, "in the next process": _next(clock)}


def service(clock: Clock) -> dict[str, Any]:
    """Serve a tenant on the GPU, and search for its numbers when its session has ended."""
    from sectum.hetee.bench.local_rack import LocalRack

    canary = Canary(SEED)
    with LocalRack("cuda=1", arguments=["--spares", "1"]) as rack:
        with rack.connect(accelerator="cuda", wait_s=clock.left_s) as session:
            session.load(canary.model(TENANT))
            result = session.infer(canary.numbers(TENANT, 1))
            if not (result.outputs["y"] == canary.numbers(TENANT, 2)).all():
                raise NotPassed("the GPU computed something else than the CPU would")
            accelerator = result.receipt.accelerator
        return {"accelerator": accelerator, "when the session has ended": _next(clock)}


def _next(clock: Clock) -> dict[str, Any]:
    after: dict[str, Any] = json.loads(clock.run("tools/gpu_residue.py", "scan", "--seed", str(SEED)))
    if after["canaries"]:
        raise NotPassed(f"the next process finds {after['canaries']} numbers of the one before in the GPU's memory")
    if after["searched_bytes"] < after["total_bytes"] / 2:
        raise NotPassed(f"only {after['searched_bytes']} of {after['total_bytes']} bytes could be searched")
    return after


def inference(clock: Clock) -> dict[str, Any]:
    """Compute the five networks in the service and in the plain baseline, in turns."""
    return _bench(clock, "inference", NETWORKS, batches=12)


def training(clock: Clock) -> dict[str, Any]:
    """Train ResNet-50 in the service and in the plain baseline, in turns."""
    return _bench(clock, "training", ("ResNet50",), batches=6)


def _bench(clock: Clock, task: str, networks: tuple[str, ...], batches: int) -> dict[str, Any]:
    words = ["--real-compute", "--accelerator", "cuda", "--batch", str(BATCH), "--batches", str(batches)]
    words += ["--seed", str(SEED), "--json", *(word for name in networks for word in ("--network", name))]
    found: dict[str, Any] = json.loads(clock.run("-m", "sectum.cli", "hetee", "bench", task, *words))
    cells = [(cell["network"], cell["compute"]) for cell in found["cells"]]
    if cells != [(name, "real") for name in networks]:
        raise NotPassed(f"it measured {cells}")
    return found


CHECKS: dict[str, Callable[[Clock], dict[str, Any]]] = {
    "conformance": conformance,
    "reset": reset,
    "service": service,
    "inference": inference,
    "training": training,
}


@dataclass
class Outcome:
    """What came of one check.

    Attributes:
        name: one of `CHECKS`.
        why: why it did not pass; None if it did.
        seconds: how long it took.
        found: what it found.
    """

    name: str
    why: str | None = None
    seconds: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)

    def text(self) -> list[str]:
        """What it found, as lines for a person."""
        lines = [f"{self.name}: {'passed' if self.why is None else 'NOT PASSED'} in {self.seconds:.0f} s"]
        lines += [f"  {self.why}"] if self.why else []
        for cell in self.found.get("cells", ()):
            numbers = ", ".join(f"{name} {cell[name]}" for name in _SHOWN)
            baseline = cell["baseline"]["images_per_s"]
            lines.append(f"  {cell['network']}, batches of {cell['batch']}: {numbers}, baseline {baseline}; measured")
        if "cells" not in self.found:
            lines += [f"  {name}: {value}" for name, value in self.found.items()]
        return lines


def run(seconds: float, only: tuple[str, ...] = ()) -> list[Outcome]:
    """Run the checks, one after the other; one that has no time left does not pass."""
    clock, outcomes = Clock(seconds), []
    for name in only or CHECKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        outcome, begun_s = Outcome(name), time.monotonic()
        try:
            outcome.found = CHECKS[name](clock.started())
        except (NotPassed, SectumError, ValueError, KeyError, OSError) as error:
            outcome.why = f"{'' if isinstance(error, NotPassed) else type(error).__name__ + ': '}{error}"
        outcome.seconds = round(time.monotonic() - begun_s, 1)
        outcomes.append(outcome)
    return outcomes


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to write the results")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"for all (default {SECONDS:g})")
    parser.add_argument("--only", choices=CHECKS, action="append", default=[], help="run only this; may be repeated")
    arguments = parser.parse_args()
    found = gpus()
    if not found:
        print("no GPU: nvidia-smi lists none on this machine; nothing was checked", file=sys.stderr)
        return NO_GPU
    if why := unusable():
        print(why, file=sys.stderr)
        return UNUSABLE
    about = context(found)
    outcomes = run(arguments.seconds, tuple(arguments.only))
    passed = all(outcome.why is None for outcome in outcomes)
    ended = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result = {"context": about, "ended": ended, "passed": passed, "checks": [vars(outcome) for outcome in outcomes]}
    names = ", ".join(gpu["name"] for gpu in found)
    lines = [f"{names}, driver {found[0]['driver_version']}; commit {about['commit']}; {about['evidence']}", ""]
    lines += [line for outcome in outcomes for line in outcome.text()]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gpu-check.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "gpu-check.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return PASSED if passed else FAILED


if __name__ == "__main__":
    sys.exit(main())
