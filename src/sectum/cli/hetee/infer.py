"""``sectum hetee infer``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.hetee.opened import close_pool, open_session, pool_json, rack_of, show_pool, tell_unproven
from sectum.cli.hetee.options import (
    SOFTWARE,
    enclave_options,
    racks_options,
    service_options,
)
from sectum.cli.hetee.resizable import resizable
from sectum.cli.options import examples, json_option, whole
from sectum.errors import ModelUnreadable, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sectum.hetee.client import Result, Session
    from sectum.hetee.client.pool import PoolSession
    from sectum.hetee.data_plane.messages import Pixels

_LARGEST_BATCH = 64
_JPEG = b"\xff\xd8\xff"
_NAMED = 3


@click.command(
    epilog=examples(
        "sectum hetee infer zoo:squeezenet1_1 cat.jpg dog.jpg",
        "sectum hetee infer resnet50.onnx *.jpg --batch 16 --policy policy.json --url hetee://10.0.0.7:7625 --json",
    )
)
@click.argument("model", metavar="MODEL")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--batch", callback=whole(1024), metavar="N", help="Batch size in images.  [default: the model's, or 64]")
@click.option(
    "--pixels",
    type=click.Choice(["imagenet", "unit", "bytes"]),
    default="imagenet",
    show_default=True,
    help="How the model expects pixels: normalised by ImageNet's mean and deviation, 0 to 1, or 0 to 255.",
)
@click.option(
    "--top", callback=whole(1000), default="3", show_default=True, metavar="K", help="Number of classes to show."
)
@click.option(
    "--split",
    is_flag=True,
    help="Share each batch among the accelerators of the enclave. The model must compute each image by itself.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE.npz", help="Write all outputs to this file.")
@click.option(
    "--receipts",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the receipt of each batch, with its evidence, to this folder; 'sectum hetee verify' checks it.",
)
@enclave_options
@racks_options
@service_options
@json_option
def infer(
    *,
    model: str,
    images: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    receipts: Path | None,
    split: bool,
    **options: Any,
) -> None:
    """Run MODEL on JPEG images in an enclave, and check the signed receipts.

    MODEL is an ONNX file with one image input, or zoo:NAME. The model and the images are sent only after the evidence
    of the controller and the worker was verified and your policy has accepted it.
    """
    from sectum.cli.render.output import check_writable, print_json, write_file

    if output is not None:
        check_writable(output)
    content = read_model(model)
    for image in images:
        _check_image(image)
    with open_session(options) as session, resizable("infer", session.resize):
        with _about(model):
            loaded = session.load(content)
        size = options["batch"] or _batch(loaded.inputs)
        pixels = _pixels(options["pixels"])
        parts = [images[at : at + size] for at in range(0, len(images), size)]
        pending = []
        for part in parts:
            with _about(*part):
                pending.append(session.submit(list(part), pixels=pixels, split=split))
        results = [_result(part, future) for part, future in zip(parts, pending, strict=True)]
        if receipts is not None:
            _save(session, results, receipts)
        unproven = close_pool(session)
    if output is not None:
        write_file(output, archive(results))
    found = [row for part, result in zip(parts, results, strict=True) for row in _classes(part, result, options["top"])]
    if as_json:
        print_json(_json(session, loaded.digest.hex(), found, results))
    else:
        _show(session, found, results)
    tell_unproven(unproven, as_json=as_json)


def read_model(text: str) -> bytes:
    """The bytes of an ONNX file, or of a network of the zoo with any batch size.

    Raises:
        ModelUnreadable: the file does not exist, or cannot be read.
    """
    from sectum import zoo

    if text.startswith("zoo:"):
        return zoo.to_bytes(zoo.network(text.removeprefix("zoo:")))
    path = Path(text)
    if not path.is_file():
        meant = f": did you mean zoo:{text}?" if text in (*zoo.names(), *zoo.program_names()) else ""
        raise ModelUnreadable(f"there is no file '{text}'{meant}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelUnreadable(f"'{text}' cannot be read: {error.strerror or error}") from None


def _check_image(image: str) -> None:
    """Check that a file is a JPEG, before anything is sent.

    Raises:
        UsageError: it is not.
    """
    try:
        with Path(image).open("rb") as file:
            begin = file.read(len(_JPEG))
    except OSError as error:
        why = "there is no file" if isinstance(error, FileNotFoundError | IsADirectoryError) else error.strerror
        raise UsageError(f"{why}: '{image}'") from None
    if begin != _JPEG:
        raise UsageError(f"'{image}' is not a JPEG: save it as one, or send arrays with sectum.hetee.client")


def _save(session: Session | PoolSession, results: list[Result], folder: Path) -> None:
    import msgspec

    from sectum.cli.render.output import write_file

    folder.mkdir(parents=True, exist_ok=True)
    for number, result in enumerate(results):
        write_file(folder / f"batch-{number}.json", msgspec.json.encode(session.bundle(result)) + b"\n")


def archive(results: list[Result]) -> bytes:
    """All outputs as an ``.npz`` file, with the batches concatenated, and text as text instead of pickled objects."""
    import numpy as np

    from sectum.cli.input_file import archive_of

    arrays = {}
    for name in results[0].outputs:
        joined = results[0].outputs[name]
        if len(results) > 1:
            try:
                joined = np.concatenate([np.atleast_1d(result.outputs[name]) for result in results])
            except ValueError:
                raise UsageError(
                    f"the output '{name}' has a different shape in each batch: send all images in one, with --batch"
                ) from None
        arrays[name] = joined.astype(str) if joined.dtype == object else joined
    return archive_of(arrays)


@contextmanager
def _about(*names: str) -> Iterator[None]:
    """Add the names of the files to a refusal."""
    from sectum.hetee.errors import WorkRefused

    try:
        yield
    except WorkRefused as error:
        among = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} others" if len(names) > _NAMED else "")
        raise WorkRefused(error.code, f"{among}: {error.detail}") from None


def _result(images: tuple[str, ...], future: Future[Any]) -> Result:
    with _about(*images):
        result: Result = future.result()
        return result


def _batch(inputs: Any) -> int:
    first = inputs[0].shape[0] if len(inputs) == 1 and inputs[0].shape else None
    return first if isinstance(first, int) and first > 0 else _LARGEST_BATCH


def _pixels(name: str) -> Pixels:
    from sectum.hetee.client.inputs import IMAGENET
    from sectum.hetee.data_plane.messages import Pixels

    return {"imagenet": IMAGENET, "unit": Pixels(std=(255.0,)), "bytes": Pixels()}[name]


def _classes(images: tuple[str, ...], result: Result, top: int) -> list[dict[str, Any]]:
    """The classes with the highest scores for each image, if the first output has a row of scores for each."""
    import numpy as np

    scores = next(iter(result.outputs.values()))
    rows = scores.reshape(len(images), -1) if scores.ndim and len(scores) == len(images) else None
    if rows is None or rows.dtype.kind != "f":
        return [{"image": image, "classes": []} for image in images]
    found = []
    for image, row in zip(images, rows, strict=True):
        best = np.argsort(row)[::-1][:top]
        found.append({"image": image, "classes": [{"class": int(i), "score": _score(row[i])} for i in best]})
    return found


def _score(value: Any) -> float | None:
    """A score; None if it is not finite, because JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


def _json(
    session: Session | PoolSession, model: str, found: list[dict[str, Any]], results: list[Result]
) -> dict[str, Any]:
    outputs = results[0].outputs.items()
    return {
        "model_sha256": model,
        "images": found,
        "outputs": [{"name": name, "dtype": str(a.dtype), "shape": list(a.shape)} for name, a in outputs],
        "batches": [
            {
                "items": result.receipt.items,
                "accelerator": result.receipt.accelerator,
                "paced": result.paced,
                "elapsed_ms": round(result.elapsed_ms, 3),
                "times_ms": {step: ns / 1e6 for step, ns in result.receipt.times_ns.items()},
                **rack_of(result),
            }
            for result in results
        ],
        **_service(session),
    }


def _service(session: Session | PoolSession) -> dict[str, Any]:
    """What the evidence said, and how the enclave ended."""
    from sectum.hetee.client.pool import PoolSession

    if isinstance(session, PoolSession):
        return pool_json(session)
    trust = session.trust
    assert trust.controller is not None
    assert trust.worker is not None
    return {
        "evidence": {
            "format": trust.controller.format,
            "hardware": trust.controller.hardware,
            "controller": trust.controller.measurement.hex(),
            "worker": trust.worker.measurement.hex(),
            "device": trust.controller.device.hex(),
        },
        "cleaned": session.cleaning.ended if session.cleaning is not None else None,
    }


def _shown(score: float | None) -> str:
    from sectum.cli.render.figures import number

    return "not a number" if score is None else number(score)


def _show(session: Session | PoolSession, found: list[dict[str, Any]], results: list[Result]) -> None:
    from sectum.cli.render.figures import milliseconds
    from sectum.cli.render.show import rows, say
    from sectum.hetee.data_plane.receipts import STEPS

    lines = [
        (Path(row["image"]).name, "  ".join(f"{best['class']}: {_shown(best['score'])}" for best in row["classes"]))
        for row in found
    ]
    if any(line[1] for line in lines):
        rows(lines, header=("image", "class: score"))
    for name, array in results[0].outputs.items():
        say(f"output {name}: {array.dtype} {'x'.join(map(str, array.shape))}")
    items = sum(result.receipt.items for result in results)
    times = {step: sum(r.receipt.times_ns[step] for r in results) / 1e6 for step in STEPS}
    steps = ", ".join(f"{step} {milliseconds(ms)}" for step, ms in times.items())
    images, batches = ("image" if items == 1 else "images"), ("batch" if len(results) == 1 else "batches")
    say(f"\n{items} {images} in {len(results)} {batches}; signed by the worker: {steps}")
    _show_service(session)


def _show_service(session: Session | PoolSession) -> None:
    from sectum.cli.render.show import say
    from sectum.hetee.client.pool import PoolSession

    if isinstance(session, PoolSession):
        show_pool(session, "batches")
        return
    cleaning = session.cleaning
    assert cleaning is not None  # `close` raises otherwise
    say(f"signed by the controller: the enclave's process has ended ({cleaning.exit}), and was collected")
    trust = session.trust
    for claims in (trust.controller, trust.worker):
        assert claims is not None
        say(f"accepted {claims.role or claims.format} {claims.version}, measurement {claims.measurement.hex()[:16]}")
    if trust.controller is not None and not trust.controller.hardware:
        say(SOFTWARE)
