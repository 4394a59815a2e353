"""``sectum hetee connect``."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.options import (
    accelerator_options,
    check_listenable,
    chosen_identity,
    chosen_policy,
    explaining_unreachable,
    service_options,
)
from sectum.cli.hetee.resizable import resizable
from sectum.cli.options import examples, json_option, whole
from sectum.cli.render.output import print_line
from sectum.errors import UsageError
from sectum.extras import need_extra

if TYPE_CHECKING:
    from sectum.hetee.client.reconnecting_session import ReconnectingSession


@click.command(
    epilog=examples(
        "sectum hetee connect resnet50.onnx",
        "sectum hetee connect classifier=resnet50.onnx zoo:squeezenet1_1 --port 8001 --url hetee://10.0.0.7:7625",
    )
)
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option(
    "--port", callback=whole(65535), default="8001", show_default=True, metavar="N", help="Port on 127.0.0.1."
)
@accelerator_options
@service_options
@json_option
def connect(*, models: tuple[str, ...], port: int, as_json: bool, **options: Any) -> None:
    """Run a local gateway for clients of the Open Inference Protocol (v2, gRPC).

    It verifies the service's evidence and loads the models. Then any client of that protocol, such as tritonclient,
    can use them at 127.0.0.1 under the names given here. The connection between that client and the gateway is not
    encrypted, so the gateway listens on the loopback interface only. With --json it prints one line of JSON for each
    event: 'loaded' for each model, 'ready' (with address, policy, evidence and accelerators), 'stopped'.
    """
    need_extra("hetee", "the gateway", "grpc")
    check_listenable("--port", f"127.0.0.1:{port}")
    contents = _named(models)
    policy = chosen_policy(options["policy"], options["state"])
    from sectum.hetee.client.open_inference_gateway import OpenInferenceGateway
    from sectum.hetee.client.reconnecting_session import ReconnectingSession

    # End the session in order, however this process is told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    session = ReconnectingSession(
        options["url"],
        policy,
        identity=chosen_identity(options["identity"]),
        accelerator=options["accelerator"],
        count=options["count"],
    )
    try:
        for name, content in contents.items():
            with explaining_unreachable(options["url"]):
                loaded = session.add(name, content)
            if as_json:
                print_line({"event": "loaded", "model": name, "sha256": loaded.digest.hex()})
            else:
                click.echo(f"loaded {name}")
        with OpenInferenceGateway(session, port) as gateway, resizable("connect", session.resize):
            _greet(session, f"127.0.0.1:{gateway.port}", options, as_json=as_json)
            gateway.wait()
    finally:
        session.close()
        if as_json:
            print_line({"event": "stopped"})


def _greet(session: ReconnectingSession, address: str, options: dict[str, Any], *, as_json: bool) -> None:
    if not as_json:
        click.echo(f"Open Inference Protocol at {address}; Ctrl-C ends it")
        click.secho(session.protection, bold=True)
        return
    claims = session.claims
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
            "accelerators": {options["accelerator"]: options["count"]},
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
            raise UsageError(f"'{text}' gives no name, or one that is used twice: write NAME=MODEL")
        found[name] = read_model(model)
    return found
