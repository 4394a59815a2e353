"""Opens the session that the options of a command name: with one service, or over the racks of a pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sectum.cli.hetee.options import SOFTWARE, URL, check_url, chosen_identity, chosen_policy, explaining_unreachable
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.client import Result, Session
    from sectum.hetee.client.pool import PoolSession
    from sectum.hetee.errors import HeteeError


def open_session(options: dict[str, Any]) -> Session | PoolSession:
    """Open the session that the options name.

    Raises:
        UsageError: an address is malformed, or options contradict each other.
        HeteeError: the service cannot be reached, or is not trusted.
    """
    policy = chosen_policy(options["policy"], options["state"])
    from sectum.hetee.client import connect
    from sectum.hetee.client.pool import connect_pool

    pool, racks = options["pool"], options["racks"]
    if (pool is not None) + bool(racks) + (options["url"] != URL) > 1:
        raise UsageError("--url, --rack and --pool contradict each other: give one of them")
    for url in racks:
        check_url(url)
    wanted = {name: options[name] for name in ("accelerator", "count", "wait_s")}
    identity = chosen_identity(options["identity"])
    if pool is None and not racks:
        with explaining_unreachable(options["url"]):
            return connect(options["url"], policy, identity=identity, **wanted)
    named: Sequence[str] | Callable[[], Sequence[str]] = racks
    if pool is not None:
        from sectum.hetee.inventory import ask_racks

        named = partial(ask_racks, pool)
    return connect_pool(named, policy, identity=identity, **wanted)


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
