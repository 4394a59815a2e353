"""``sectum profiles``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sectum.cli.options import examples, json_option
from sectum.cli.render.figures import number
from sectum.cli.render.output import print_json
from sectum.cli.render.show import paragraph, rows, say
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.enclave.profile import Profile


@click.command(epilog=examples("sectum profiles", "sectum profiles --json"))
@json_option
def profiles(*, as_json: bool) -> None:
    """List the enclave profiles and their costs."""
    from sectum.enclave import profile as stored
    from sectum.enclave.profile_kinds import NOT_PREDICTED

    found = [stored.load(name) for name in stored.names()]
    if as_json:
        print_json({"profiles": [profile.to_json() for profile in found], "not_predicted": dict(NOT_PREDICTED)})
        return
    rows(
        [_row(profile) for profile in found],
        right=(1, 2, 3, 4),
        header=("profile", "EPC", "page swap", "compute", "per weight byte", "source", ""),
    )
    say("")
    paragraph(
        "sgx2 has the EPC of the machine that you rent: give its size with --epc. Where the compute factor is '?', no "
        "published measurement has the same machine inside and outside: run 'sectum calibrate' inside such a machine, "
        "and predict there."
    )
    say("")
    paragraph(f"No profile describes {' or '.join(NOT_PREDICTED)}, which are GPUs; --enclave says what is published.")
    say("")
    paragraph("--json prints the sources of these numbers. A profile of your own is a JSON file: pass it to --enclave.")


def _row(profile: Profile) -> tuple[str, ...]:
    origin = profile.provenance["compute_factor"]
    factor = "?"
    if profile.compute_factor is not None:
        factor = f"{number(profile.compute_factor)} x"
        if profile.compute_factor_low is not None and profile.compute_factor_high is not None:
            factor = f"{number(profile.compute_factor_low)} to {number(profile.compute_factor_high)} x"
    return (
        profile.name,
        "unlimited" if profile.epc_bytes is None else format_bytes(profile.epc_bytes),
        f"{number(profile.load_us + profile.evict_us)} us",
        factor,
        f"{number(profile.stream_ns_per_byte)} ns",
        f"{origin.kind} {origin.date}" if origin.date else origin.kind,
        profile.description,
    )
