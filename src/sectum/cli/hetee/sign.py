"""``sectum hetee sign``."""

from __future__ import annotations

from pathlib import Path

import click

from sectum.cli.hetee.options import need_extra, need_pytorch, state_option, training_option
from sectum.cli.options import examples, json_option


@click.command(epilog=examples("sectum hetee sign", "sectum hetee sign --key signer.pem --state /var/lib/sectum"))
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Private key to sign with: Ed25519, PEM.  [default: the rack's own]",
)
@training_option
@state_option
@json_option
def sign(*, key: Path | None, training: bool, state: Path | None, as_json: bool) -> None:
    """Sign the worker's software that is installed here, so that the rack's controller runs it.

    The controller starts no worker whose image is not in its signed manifest. 'sectum hetee up' signs what is installed
    when it makes the folder of the rack; after that, sign each change of the software. Clients still decide by their
    policy which software they accept.
    """
    need_extra()
    if training:
        need_pytorch()
    from sectum.cli.render.output import print_json
    from sectum.cli.render.show import say
    from sectum.hetee.launcher import RackPaths, state_directory
    from sectum.hetee.signing import sign_worker

    folder = RackPaths(state or state_directory()).reference
    measurement = sign_worker(folder, key=key, training=training).hex()
    if as_json:
        print_json({"measurement": measurement, "path": str(folder)})
    else:
        say(f"{folder} now holds the worker's software that is installed here: measurement {measurement[:16]}")
