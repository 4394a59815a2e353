"""``sectum hetee connect``."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.options import check_listenable, chosen_identity, chosen_policy, reaching, service_options
from sectum.cli.options import examples, json_option, whole
from sectum.cli.render.extras import need_extra
from sectum.cli.render.output import print_line
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.client.gateway import Gateway


@click.command(
    epilog=examples(
        "sectum hetee connect resnet50.onnx",
        "sectum hetee connect classifier=resnet50.onnx zoo:squeezenet1_1 --port 8001 --url hetee://10.0.0.7:7625",
    )
)
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option("--port", callback=whole(65535), default="8001", show_default=True, metavar="N", help="On 127.0.0.1.")
@click.option("--accelerator", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="The kind.")
@service_options
@json_option
def connect(*, models: tuple[str, ...], port: int, as_json: bool, **options: Any) -> None:
    """Open a local door to the service for programs that speak the Open Inference Protocol (v2, gRPC).

    The service is attested, the models are loaded, and then any client of that protocol, such as tritonclient,
    can use them at 127.0.0.1 under the names given here. Between that program and this door nothing is sealed:
    it listens on the loopback interface only. With --json a line of JSON is printed for each event: 'loaded', for
    each model, 'ready' (with address, policy, evidence and accelerators), 'stopped'.
    """
    need_extra("hetee", "the local endpoint", "grpc")
    check_listenable("--port", f"127.0.0.1:{port}")
    contents = _named(models)
    policy = chosen_policy(options["policy"], options["state"])
    from sectum.hetee.client.door import Door
    from sectum.hetee.client.gateway import Gateway

    # Whoever ends this process, its session is ended in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gateway = Gateway(
        options["url"], policy, identity=chosen_identity(options["identity"]), accelerator=options["accelerator"]
    )
    try:
        for name, content in contents.items():
            with reaching(options["url"]):
                loaded = gateway.add(name, content)
            if as_json:
                print_line({"event": "loaded", "model": name, "sha256": loaded.digest.hex()})
            else:
                click.echo(f"loaded {name}")
        with Door(gateway, port) as door:
            _greet(gateway, f"127.0.0.1:{door.port}", options, as_json=as_json)
            door.wait()
    finally:
        gateway.close()
        if as_json:
            print_line({"event": "stopped"})


def _greet(gateway: Gateway, address: str, options: dict[str, Any], *, as_json: bool) -> None:
    if not as_json:
        click.echo(f"Open Inference Protocol at {address}; Ctrl-C ends it")
        click.secho(gateway.protection, bold=True)
        return
    claims = gateway.claims
    assert claims is not None
    policy = options["policy"]
    print_line(
        {
            "event": "ready",
            "address": address,
            "url": options["url"],
            "policy": str(policy.absolute()) if policy is not None else None,
            "evidence": claims.format,
            "hardware": claims.hardware,
            "protection": str(claims),
            "accelerators": {options["accelerator"]: 1},
        }
    )


def _named(models: tuple[str, ...]) -> dict[str, bytes]:
    from pathlib import Path

    from sectum.cli.hetee.infer import read_model

    found: dict[str, bytes] = {}
    for text in models:
        name, given, model = text.partition("=")
        if not given:
            name, model = Path(text.removeprefix("zoo:")).stem, text
        if not name or name in found:
            raise UsageError(f"'{text}' gives no name of its own: write NAME=MODEL")
        found[name] = read_model(model)
    return found
