"""``sectum profiles``."""

from __future__ import annotations

import click

from sectum.cli.options import examples, json_option


@click.command(epilog=examples("sectum profiles", "sectum profiles --json"))
@json_option
def profiles(*, as_json: bool) -> None:
    """List the enclave profiles and their costs."""
    from sectum.cli.render.figures import number
    from sectum.cli.render.output import print_json
    from sectum.cli.render.show import paragraph, rows, say
    from sectum.enclave import profile as stored
    from sectum.units import format_bytes

    found = [stored.load(name) for name in stored.names()]
    if as_json:
        print_json({"profiles": [profile.to_json() for profile in found]})
        return
    rows(
        [
            (
                profile.name,
                "unlimited" if profile.epc_bytes is None else format_bytes(profile.epc_bytes),
                f"{number(profile.load_us + profile.evict_us)} us",
                f"{number(profile.compute_factor)} x",
                f"{number(profile.stream_ns_per_byte)} ns",
                profile.description,
            )
            for profile in found
        ],
        right=(1, 2, 3, 4),
        header=("profile", "EPC", "page swap", "compute", "per weight byte", ""),
    )
    say("")
    paragraph("--json prints the sources of these numbers. A profile of your own is a JSON file: pass it to --enclave.")
