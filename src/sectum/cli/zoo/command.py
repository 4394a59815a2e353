"""``sectum zoo``."""

from __future__ import annotations

from pathlib import Path

import click

from sectum.cli.command_group import FullSentenceGroup
from sectum.cli.options import LARGEST_BATCH, examples, json_option, output_option, whole


@click.group(
    cls=FullSentenceGroup,
    epilog=examples("sectum zoo list", "sectum zoo export resnet50 -o resnet50.onnx"),
    invoke_without_command=True,
)
@click.pass_context
def zoo(ctx: click.Context) -> None:
    """List published networks, or write one as an ONNX file."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@zoo.command("list", epilog=examples("sectum zoo list"))
@json_option
def list_networks(*, as_json: bool) -> None:
    """List the networks that zoo:NAME can name."""
    from sectum import zoo as networks
    from sectum.cli.render.output import print_json
    from sectum.cli.render.show import rows

    built = [networks.build(name) for name in networks.names()]
    if as_json:
        fields = ("name", "family", "parameters", "resolution")
        print_json({"networks": [{field: getattr(network, field) for field in fields} for network in built]})
        return
    rows(
        [(a.name, a.family, f"{a.parameters:,}", f"{a.resolution} x {a.resolution}") for a in built],
        right=(2,),
        header=("network", "family", "parameters", "input"),
    )


@zoo.command(epilog=examples("sectum zoo export resnet50", "sectum zoo export vgg16 -o vgg16.onnx --batch 1"))
@click.argument("name")
@output_option("File to write.  [default: NAME.onnx]")
@click.option("--batch", callback=whole(LARGEST_BATCH), metavar="N", help="Images per inference.  [default: open]")
@json_option
def export(*, name: str, output: Path | None, batch: int | None, as_json: bool) -> None:
    """Write a network of the zoo, with seeded weights, as an ONNX file.

    Without --batch the batch dimension stays open; it gets a value when the file is used.
    """
    from hashlib import sha256

    from sectum import zoo as networks
    from sectum.cli.render.output import check_writable, print_json, write_file
    from sectum.cli.render.show import say
    from sectum.units import format_bytes

    architecture = networks.build(name.removeprefix("zoo:"))
    path = output or Path(f"{architecture.name}.onnx")
    check_writable(path)
    content = networks.to_bytes(architecture, batch=batch)
    write_file(path, content)
    if as_json:
        print_json(
            {
                "network": architecture.name,
                "path": str(path),
                "n_bytes": len(content),
                "sha256": sha256(content).hexdigest(),
                "parameters": architecture.parameters,
            }
        )
        return
    say(f"Wrote {path}: {architecture.name}, {architecture.parameters:,} parameters, {format_bytes(len(content))}.")
