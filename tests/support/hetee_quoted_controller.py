"""A real controller whose evidence are quotes of a platform that exists in tests only, and a rack with it.

Host, controller, workers and client are those of the service. What differs: the quotes come from
`hetee_quoting_platform`, and controller and workers run from this installation instead of from private images,
so their evidence lacks that confinement, and their measurements are the ones given here.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hetee_quote_provider import QuoteProvider
from hetee_quoting_platform import EVALUATION, QuotingPlatform
from hetee_rack import Rack
from sectum import __version__
from sectum.hetee import launcher
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.confinement import users
from sectum.hetee.confinement.required import CONFINEMENT
from sectum.hetee.controller.service import ControllerService
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.worker_supervisor import WorkerStart
from sectum.hetee.installation.controller_options import parser
from sectum.hetee.installation.enter import bind, end_with_parent, run_folder
from sectum.hetee.verification.policy import Policy

MEASUREMENTS = {"controller": b"c" * 32, "worker": b"w" * 32}
_START = (
    "import runpy, sys; sys.path[:] = {paths!r}; sys.argv[:] = sys.argv[1:]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def _command(module: str) -> list[str]:
    paths = [str(Path(folder).absolute()) for folder in sys.path if folder]
    return [sys.executable, "-P", "-c", _START.format(paths=paths), module]


def main() -> None:
    """Run a controller, and tell which platform it is on: KIND FILE, then the arguments of a controller."""
    kind, told, *rest = sys.argv[1:]
    arguments = parser().parse_args(rest)
    end_with_parent(arguments.with_parent)
    platform = QuotingPlatform(kind)  # type: ignore[arg-type]
    Path(told).write_text(json.dumps({"root": platform.root.hex(), "registers": platform.registers}))
    subject = Subject("controller", __version__, MEASUREMENTS["controller"])
    attester = QuoteProvider(platform.kind, subject, platform.quote, platform.collateral)
    worker = [*_command("sectum.hetee.worker"), "--accelerators", "cpu:0", "--hardware", attester.format]
    # A host that root starts takes a user of its own, which has to reach the socket.
    user = users.first_user(arguments.socket.parent) if os.geteuid() == 0 else 0
    run_folder(arguments.socket, user)
    ControllerService(
        Settings(accelerators=arguments.accelerators, spares=1, drain_s=arguments.drain_s),
        attester,
        subject,
        bind(arguments.socket),
        WorkerStart(worker, dict(os.environ), MEASUREMENTS["worker"]),
        hosts={os.geteuid(), users.host_user(user) if user else os.geteuid()},
    ).run()


class QuotedRack(Rack):
    """A rack whose controller shows quotes.

    Args:
        kind: ``sgx`` or ``tdx``.
        directory: folder of the rack.
    """

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind, self._told = kind, directory / "platform.json"
        ordinary = launcher.role_command

        def command(name: str) -> list[str]:
            return [*_command(__name__), kind, str(self._told)] if name == "controller" else ordinary(name)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launcher, "role_command", command)
            super().__init__("cpu=1", directory=directory)

    @property
    def quoted_policy(self) -> Policy:
        """A policy that accepts this rack: its root of tests by name, its registers, and no confinement by images."""
        told: dict[str, Any] = json.loads(self._told.read_text())
        return Policy(
            formats=(self.kind,),  # type: ignore[arg-type]
            measurements={role: (measurement.hex(),) for role, measurement in MEASUREMENTS.items()},
            confinement={
                "controller": (),
                "worker": tuple(step for step in CONFINEMENT["worker"] if step != "measured-code"),
            },
            registers={name: (value,) for name, value in told["registers"].items()},
            tcb_evaluation_least=EVALUATION,
            quote_roots=(told["root"],),
        )


if __name__ == "__main__":
    main()
