"""``sectum profiles``."""

from __future__ import annotations

import click

from sectum.cli.options import examples, json_option


@click.command(epilog=examples("sectum profiles", "sectum profiles --json"))
@json_option
def profiles(*, as_json: bool) -> None:
    """List the enclave profiles that predictions can be made for, and what they cost."""
    from sectum.cli.render.figures import mebibytes, number
    from sectum.cli.render.output import print_json
    from sectum.cli.render.show import paragraph, rows, say
    from sectum.enclave import profile as known

    found = [known.load(name) for name in known.names()]
    if as_json:
        print_json({"profiles": [profile.to_json() for profile in found]})
        return
    rows(
        [
            (
                profile.name,
                "unlimited" if profile.epc_bytes is None else mebibytes(profile.epc_bytes),
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
    paragraph("Your own profile is a JSON file: name it with --enclave. --json prints these with their sources.")
