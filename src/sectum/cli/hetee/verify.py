"""``sectum hetee verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.options import SOFTWARE, chosen_policy, state_option
from sectum.cli.options import examples, json_option
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.client import CheckedBundle
    from sectum.hetee.data_plane.messages import Tensor

_NOT_PROVED = (
    "It does not prove when the batch was computed: no clock but yours is in it. It does not prove that the model is "
    "right, nor what became of the data later: the record of the enclave's end is another one."
)


@click.command(
    epilog=examples(
        "sectum hetee verify receipts/batch-0.json --policy policy.json",
        "sectum hetee verify receipts/batch-0.json --input cat.jpg --output out.npz",
    )
)
@click.argument("receipt", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="RECEIPT")
@click.option(
    "--input",
    "inputs",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    metavar="FILE",
    help="A file that was sent, or an array as .npy; repeat it in the order of the batch.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE.npz",
    help="The outputs, as 'infer --output' writes them for one batch, and 'train --receipts' for each step.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Policy file, as written by 'sectum hetee policy'.  [default: accept this machine's rack]",
)
@state_option
@json_option
def verify(
    *,
    receipt: Path,
    inputs: tuple[Path, ...],
    output: Path | None,
    policy: Path | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Check a saved RECEIPT without the service: who computed which batch, and whether inputs and outputs are its own.

    It checks the signatures from the manufacturer's root to the receipt, and that your policy accepts controller and
    worker. RECEIPT is a file that 'sectum hetee infer --receipts' or 'sectum hetee train --receipts' wrote.
    """
    accepted = chosen_policy(policy, state)
    from sectum.cli.render.output import print_json
    from sectum.cli.render.show import paragraph, say
    from sectum.hetee.client import check_bundle
    from sectum.hetee.client.bundle import read_bundle_file
    from sectum.hetee.errors import Refusal, refusal

    checked = check_bundle(read_bundle_file(receipt), accepted)
    if inputs and not _fit(checked.request.tensors, _inputs(checked, inputs), checked.receipt.inputs):
        detail = "the receipt is for other inputs than the files that were given"
        raise refusal(Refusal.NOT_GENUINE, detail, "give the files that were sent, in the order of the batch")
    if output is not None and not _fit(checked.result.tensors, _outputs(checked, output), checked.receipt.outputs):
        detail = f"the receipt is for other outputs than those in {output}"
        raise refusal(Refusal.NOT_GENUINE, detail, "give the file that was written for this batch")
    compared = {"inputs": bool(inputs), "outputs": output is not None}
    if as_json:
        print_json(_json(checked, compared))
        return
    say(f"the receipt is genuine: {checked.receipt}")
    say(f"model (SHA-256) {checked.receipt.model.hex()}")
    for work in checked.request.work:
        say(f"{work.kind}, step {work.step} of a training job")
    say(f"computed on {checked.receipt.accelerator} by a {checked.worker}")
    say(f"vouched for by a {checked.controller}")
    for name, digest in (("inputs", checked.receipt.inputs), ("outputs", checked.receipt.outputs)):
        compared_with = "those that you gave" if compared[name] else "not compared with a file"
        say(f"{name} (BLAKE3) {digest.hex()}: {compared_with}")
    paragraph(_NOT_PROVED)
    if not checked.worker.hardware:
        say(SOFTWARE)


def _fit(tensors: tuple[Tensor, ...], contents: list[bytes], digest: bytes) -> bool:
    """Whether these contents of tensors are those of a digest in a receipt."""
    from sectum.hetee.client.bundle import digest_of
    from sectum.hetee.errors import WorkRefused

    try:
        return digest_of(tensors, contents) == digest
    except WorkRefused:  # other sizes
        return False


def _inputs(checked: CheckedBundle, files: tuple[Path, ...]) -> list[bytes]:
    """The bytes of each tensor of the request. A tensor with several items, such as images, takes a file for each."""
    left, found = list(files), []
    for tensor in checked.request.tensors:
        count = len(tensor.sizes) or 1
        if len(left) < count:
            raise UsageError(f"'{tensor.name}' has {count} items: repeat --input for each, in the order of the batch")
        found.append(b"".join(map(_content, left[:count])))
        left = left[count:]
    if left:
        raise UsageError(f"the batch has {len(files) - len(left)} inputs, {len(files)} files were given")
    return found


def _content(path: Path) -> bytes:
    if path.suffix != ".npy":
        return path.read_bytes()
    from sectum.cli.input_file import read_array

    return read_array(path).tobytes()


def _outputs(checked: CheckedBundle, path: Path) -> list[bytes]:
    from sectum.cli.input_file import read_arrays

    arrays = read_arrays(path)
    if missing := [tensor.name for tensor in checked.result.tensors if tensor.name not in arrays]:
        raise UsageError(f"'{path}' does not hold the outputs of this batch: it has no '{missing[0]}'")
    return [arrays[tensor.name].tobytes() for tensor in checked.result.tensors]


def _json(checked: CheckedBundle, compared: dict[str, bool]) -> dict[str, Any]:
    receipt = checked.receipt
    return {
        "genuine": True,
        "sha256": {name: getattr(receipt, name).hex() for name in ("model", "request", "result")},
        "blake3": {name: getattr(receipt, name).hex() for name in ("inputs", "outputs")},
        "compared": compared,
        "accelerator": receipt.accelerator,
        "paced": receipt.paced,
        "items": receipt.items,
        "work": [{"kind": work.kind, "step": work.step} for work in checked.request.work],
        "times_ms": {step: ns / 1e6 for step, ns in receipt.times_ns.items()},
        "issued_s": receipt.issued_s,
        "evidence": {
            "format": checked.worker.format,
            "hardware": checked.worker.hardware,
            "controller": checked.controller.measurement.hex(),
            "worker": checked.worker.measurement.hex(),
            "device": checked.controller.device.hex(),
            "confinement": sorted(checked.worker.confinement),
        },
        "not_proved": _NOT_PROVED,
    }
