"""``sectum zoo``."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sectum.cli.command_group import FullSentenceGroup
from sectum.cli.options import LARGEST_BATCH, LARGEST_RESOLUTION, examples, json_option, output_option, whole
from sectum.cli.render.output import check_writable, print_json, write_file
from sectum.cli.render.show import rows, say
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.zoo import Architecture, Program


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

    every = [networks.network(name) for name in sorted((*networks.names(), *networks.program_names()))]
    inputs = [_inputs(network) for network in every]
    if as_json:
        fields = [
            {"name": n.name, "family": n.family, "parameters": n.parameters, "inputs": shapes}
            for n, shapes in zip(every, inputs, strict=True)
        ]
        print_json({"networks": fields})
        return
    rows(
        [(n.name, n.family, f"{n.parameters:,}", _text(shapes)) for n, shapes in zip(every, inputs, strict=True)],
        right=(2,),
        header=("network", "family", "parameters", "inputs of one sample"),
    )


def _inputs(network: Architecture | Program) -> dict[str, list[int]]:
    """Shapes of a network's inputs by name, without the batch for images and with a batch of 1 for others."""
    from sectum import zoo as networks

    if isinstance(network, networks.Program):
        return {entering.name: list(entering.shape) for entering in network.lowered().inputs}
    return {"input": list(network.shapes[0])}


def _text(inputs: dict[str, list[int]]) -> str:
    """At most two inputs; more are counted: a decoder has two for every layer."""
    shown = [f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in list(inputs.items())[:2]]
    return ", ".join(shown) + (f", and {len(inputs) - 2} more" if len(inputs) > 2 else "")


@zoo.command(
    epilog=examples(
        "sectum zoo export resnet50",
        "sectum zoo export vgg16 -o vgg16.onnx --batch 1",
        "sectum zoo export resnet50 --width 0.5 --resolution 192",
    )
)
@click.argument("name")
@output_option("File to write.  [default: NAME.onnx]")
@click.option("--batch", callback=whole(LARGEST_BATCH), metavar="N", help="Samples per inference.  [default: open]")
@click.option(
    "--width",
    type=click.FloatRange(0.01, 16),
    default=1.0,
    metavar="X",
    help="Multiply the channels.  [default: 1, as published]",
)
@click.option(
    "--resolution",
    callback=whole(LARGEST_RESOLUTION),
    metavar="N",
    help="Height and width of the images, in pixels.  [default: as published]",
)
@json_option
def export(
    *, name: str, output: Path | None, batch: int | None, width: float, resolution: int | None, as_json: bool
) -> None:
    """Write a network of the zoo, with seeded weights, as an ONNX file.

    Without --batch the batch dimension of networks for images stays open; it gets a value when the file is used. Other
    networks are written for one sample. --width and --resolution are for networks for images.
    """
    from sectum import zoo as networks

    network = networks.network(name.removeprefix("zoo:"), resolution=resolution, width=width)
    path = output or Path(f"{network.name}.onnx")
    check_writable(path)
    content = networks.to_bytes(network, batch=batch)
    write_file(path, content)
    if as_json:
        print_json(
            {
                "network": network.name,
                "path": str(path),
                "n_bytes": len(content),
                "sha256": sha256(content).hexdigest(),
                "parameters": network.parameters,
            }
        )
        return
    say(f"Wrote {path}: {network.name}, {network.parameters:,} parameters, {format_bytes(len(content))}.")
