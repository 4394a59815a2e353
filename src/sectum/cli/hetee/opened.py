"""Opens the session that the options of a command name: with one service, or over the racks of a pool."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.options import (
    SOFTWARE,
    URL,
    check_url,
    chosen_identity,
    chosen_policy,
    explaining_unreachable,
    need_extra,
)
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.client import Result, Session
    from sectum.hetee.client.pool import PoolSession
    from sectum.hetee.errors import HeteeError


def open_session(options: dict[str, Any]) -> Session | PoolSession:
    """Open the session that the options name.

    Raises:
        UsageError: an address is malformed, options contradict each other, or there is no policy.
        HeteeError: the service cannot be reached, or is not trusted.
    """
    need_extra()
    pool, racks = options["pool"], options["racks"]
    if (pool is not None) + bool(racks) + (options["url"] != URL) > 1:
        raise UsageError("--url, --rack and --pool contradict each other: give one of them")
    for url in racks:
        check_url(url)
    policy = chosen_policy(_policy_of(options), options["state"])
    from sectum.hetee.client import connect
    from sectum.hetee.client.pool import connect_pool
    from sectum.hetee.inventory import ask_racks

    wanted = {name: options[name] for name in ("accelerator", "count", "wait_s")}
    identity = chosen_identity(options["identity"])
    if pool is not None:
        return connect_pool(partial(ask_racks, pool), policy, identity=identity, **wanted)
    if racks:
        return connect_pool(racks, policy, identity=identity, **wanted)
    with explaining_unreachable(options["url"]):
        return connect(options["url"], policy, identity=identity, **wanted)


def _policy_of(options: dict[str, Any]) -> Path | None:
    """The policy that the options name, or the one of the pool that runs on this machine; None for this machine's rack.

    Raises:
        UsageError: a pool is named, and there is no policy for it.
    """
    given: Path | None = options["policy"]
    if given is not None or options["pool"] is None:
        return given
    from sectum.hetee.launcher import state_directory

    folder = options["state"] or state_directory() / "pool"
    if not (folder / "policy.json").is_file():
        raise UsageError(f"there is no policy of a pool in {folder}: name the one that its 'up' wrote with --policy")
    return Path(folder / "policy.json")


def rack_of(result: Result) -> dict[str, str]:
    """For programs: which rack of a pool answered; nothing for the only one of a service."""
    from sectum.hetee.client.pool import RackResult

    return {"rack": result.rack, "device": result.device.hex()} if isinstance(result, RackResult) else {}


def pool_json(session: Session | PoolSession) -> dict[str, Any]:
    """For programs: the racks of a pool, what each answered, and how training moved; nothing for one service."""
    from sectum.hetee.client.pool import PoolSession

    if not isinstance(session, PoolSession):
        return {}
    racks = []
    for rack in session.racks:
        about: dict[str, Any] = {"url": rack.url, "state": rack.state, "answered": rack.answered}
        about |= {"unproven": rack.unproven, "error": str(rack.error) if rack.error is not None else None}
        claims = rack.trust.controller if rack.trust is not None else None
        if claims is not None:
            about["evidence"] = {"format": claims.format, "hardware": claims.hardware, "device": claims.device.hex()}
        racks.append(about)
    moves = [{"lost": move.lost, "rack": move.rack, "step": move.step, "why": str(move.why)} for move in session.moves]
    return {"racks": racks, "moves": moves}


def show_pool(session: Session | PoolSession, unit: str) -> None:
    """For people: a line for each rack of a pool, and for each move of training; nothing for one service.

    Args:
        session: the session.
        unit: what racks answered, in the plural.
    """
    from sectum.cli.render.show import rows, say
    from sectum.hetee.client.pool import PoolSession

    if not isinstance(session, PoolSession):
        return
    lines = []
    for rack in session.racks:
        claims = rack.trust.controller if rack.trust is not None else None
        state = rack.state if rack.error is None else f"{rack.state}: {rack.error.detail}"
        lines.append((rack.url, str(rack.answered), claims.device.hex()[:10] if claims is not None else "-", state))
    rows(lines, right=(1,), header=("rack", unit, "machine", "state"))
    for move in session.moves:
        say(f"{move.lost} was lost; {move.rack} went on after step {move.step}")
    if any(rack.trust and rack.trust.controller and not rack.trust.controller.hardware for rack in session.racks):
        say(SOFTWARE)


def tell_unproven(error: HeteeError | None, *, as_json: bool) -> None:
    """End with the error of `close_pool`, if there is one; for programs, which have their JSON, by its exit code alone.

    Raises:
        HeteeError: the error.
        click.exceptions.Exit: the same, for programs.
    """
    if error is None:
        return
    if not as_json:
        raise error
    click.echo(f"sectum: {error}", err=True)
    click.get_current_context().exit(error.exit_code)


def close_pool(session: Session | PoolSession) -> HeteeError | None:
    """End the session of a pool; a session with one service is left open.

    Returns:
        An error if racks were lost that have not confirmed the end of their enclaves. It is to be raised when the
        results were shown: other racks gave them.

    Raises:
        HeteeError: as `PoolSession.close`.
    """
    from sectum.hetee.client.pool import PoolSession
    from sectum.hetee.errors import CleaningUnproven

    if isinstance(session, PoolSession):
        try:
            session.close()
        except CleaningUnproven as error:
            return error
    return None
