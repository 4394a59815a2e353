"""The default pool: one rack on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sectum.hetee.installed_policy import installed_policy, write_policy
from sectum.hetee.inventory import RackEntry, ask_state
from sectum.hetee.launcher import Launcher, RackPaths, provision
from sectum.hetee.pool.protocol import Stopped, Tell, entry_of
from sectum.hetee.signing import sign_worker

# PyTorch is copied, measured, and compiled to byte code before the first worker starts.
_READY_S, _TRAINING_READY_S = 120.0, 240.0


@dataclass(frozen=True)
class RackOptions:
    """What a rack is to be.

    Attributes:
        listen: ``host:port`` for clients.
        metrics: ``host:port`` for operators.
        controller: arguments of the controller.
        training: whether its workers can train.
        drain_s: time that open sessions have to finish when it stops.
    """

    listen: str
    metrics: str
    controller: Sequence[str]
    training: bool
    drain_s: float


class LocalPool:
    """One rack in a folder of this machine. Start, run and stop it in one thread, which must not end before.

    Args:
        paths: files of the rack; its endorsement is made if it is missing.
        options: what the rack is to be.
        tell: is told ``provisioned``, ``signed`` and ``restarted``.

    Raises:
        EvidenceRefused: the existing endorsement is unusable.
        UsageError: the folder is unusable, or another rack runs in it.
    """

    def __init__(self, paths: RackPaths, options: RackOptions, tell: Tell) -> None:
        self._paths, self._options, self._tell = paths, options, tell
        fresh = not paths.endorsement.exists()
        provision(paths)
        if fresh:
            text = f"made a software endorsement for this machine: {paths.endorsement}"
            tell("provisioned", text, endorsement=str(paths.endorsement))
        self._launcher = Launcher(
            paths,
            listen=options.listen,
            metrics=options.metrics,
            controller=[*options.controller, *(["--training"] if options.training else [])],
            drain_s=options.drain_s,
            tell=lambda text: tell("restarted", text),
        )

    def start(self, stopped: Stopped) -> None:
        """Sign the worker's software if the folder is new, write a policy for clients, and start the rack.

        Raises:
            UsageError: as `Launcher.start`.
        """
        paths, training = self._paths, self._options.training
        if not paths.reference.exists():
            measurement = sign_worker(paths.reference, training=training).hex()
            self._tell("signed", f"signed the worker's software: {measurement[:16]}", measurement=measurement)
        paths.training.touch() if training else paths.training.unlink(missing_ok=True)
        policy = installed_policy([paths.root.read_text(encoding="ascii").strip()], training=training)
        write_policy(paths.policy, policy)
        self._launcher.start(self._ready, _TRAINING_READY_S if training else _READY_S, stopped=stopped)

    def _ready(self) -> bool:
        """Whether host and controller answer and a spare worker is ready."""
        workers = ((ask_state(self._options.metrics) or {}).get("controller") or {}).get("workers", ())
        return any(worker["state"] == "spare" for worker in workers)

    def run(self, stopped: Stopped) -> None:
        """Restart roles that end, until ``stopped``."""
        self._launcher.run(stopped)

    def racks(self) -> tuple[RackEntry, ...]:
        """The rack, as its host tells operators."""
        return (entry_of("local", f"hetee://{self._options.listen}", ask_state(self._options.metrics)),)

    def hurry(self) -> None:
        """Make `stop` end sessions at once."""
        self._launcher.hurry()

    def stop(self) -> None:
        """Let sessions finish, then stop all processes."""
        self._launcher.stop()
