"""The controller's program. ``sectum hetee controller`` prepares its surroundings and starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from sectum import __version__
from sectum.hetee.attest.endorsement import load
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.reference import read_reference
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.confinement.confine import ConfinementReport, confine_controller
from sectum.hetee.confinement.required import CONFINEMENT
from sectum.hetee.controller.accelerators import has_nodes
from sectum.hetee.controller.service import ControllerService
from sectum.hetee.controller.settings import Start
from sectum.hetee.controller.worker_supervisor import WorkerStart, log
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.image import measurement, running


def _confine(start: Start) -> ConfinementReport:
    """Confine this process, and check that it runs nothing but its image.

    Raises:
        ServiceRefused: the kernel refuses a step that policies require, and the operator does not allow that.
    """
    report = ConfinementReport()
    confine_controller(report, start.host_user, debug=start.debug)
    found = running.foreign()
    if found:
        report.refused("measured-code", ", ".join(found[:3]))
    else:
        report.confinement.append("measured-code")
    required = set(CONFINEMENT["controller"]) - ({"not-dumpable"} if start.debug else set())
    if required - set(report.confinement) and not start.allow_unconfined:
        detail = f"the controller is not confined: {'; '.join(report.unconfined)}"
        raise refusal(Refusal.INTERNAL, detail, "allow it with --allow-unconfined; clients then need another policy")
    return report


def _compile(image: Path, caches: Path, options: list[str]) -> None:
    """Compile the worker's code once, from its image, so that workers start fast. No worker can write there."""
    words = [*options, "--rehearse"]
    command = running.command(image, "sectum.hetee.worker", words, caches=caches, compiles=True)
    code = subprocess.run(command, env=running.ENVIRONMENT, stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise refusal(Refusal.INTERNAL, f"the worker's software cannot run: exit code {code}")


def _workers(start: Start, hardware: str) -> WorkerStart:
    spares = [f"{kind}:0" for kind in start.settings.accelerators if not has_nodes(kind)]  # they touch no device
    options = {"--accelerators": ",".join(spares), "--threads": str(start.threads)}
    options |= {"--memory-mib": str(start.memory_mib), "--hardware": hardware}
    options["--longest-batch-s"] = str(start.settings.longest_batch_s)
    image, caches = Path(start.images, "worker"), Path(start.images, "caches")
    measured = measurement.measure(measurement.in_image(image))
    if measured not in read_reference(Path(start.images, "reference")):
        detail = f"the worker's image {measured.hex()} is not in the signed reference manifest, and is not run"
        sign = "sectum hetee sign --training" if start.training else "sectum hetee sign"
        raise refusal(Refusal.NOT_GENUINE, f"{detail}; if you changed the software or its options, run '{sign}'")
    words = [word for pair in options.items() for word in pair] + (["--training"] if start.training else [])
    _compile(image, caches, words)
    command = running.command(image, "sectum.hetee.worker", words, caches=caches)
    return WorkerStart(command, running.ENVIRONMENT, measured, start.users)


def main() -> None:
    """Run a controller until SIGTERM; its arguments are a file with a `Start` as JSON, and a bound socket for hosts."""
    start = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Start)
    listener, keys = socket.socket(fileno=int(sys.argv[2])), Path(start.images, "endorsement")
    try:
        report = _confine(start)
        endorsement = load(keys)
        for file in keys.iterdir():  # a copy, made for this process; it is in memory now
            file.unlink()
        measured = measurement.measure(measurement.in_image(Path(start.images, "controller")))
        subject = Subject("controller", __version__, measured, start.debug, tuple(report.confinement))
        attester = SoftwareProvider(endorsement, subject)
        settings = replace(
            start.settings,
            confinement=frozenset(() if start.allow_unconfined else CONFINEMENT["worker"]),
            unconfined=tuple(report.unconfined),
        )
        hosts = {os.geteuid(), start.host_user, start.operator}
        workers = _workers(start, attester.format)
        service = ControllerService(settings, attester, subject, listener, workers, hosts)
    except HeteeError as error:
        sys.stderr.write(f"sectum: {error.detail}\n")
        sys.exit(error.exit_code)
    log(
        "ready",
        evidence="software: no hardware protects this",
        measurement=subject.measurement.hex(),
        device=endorsement.device.hex(),
        debug=start.debug,
        confinement=report.confinement,
        unconfined=report.unconfined,
    )
    del endorsement  # the attester has what it needs of it
    service.run()
    log("ended")


if __name__ == "__main__":
    main()
