"""The front as files: ONNX, plans, a picture, and JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from sectum.cli.render.output import check_writable, make_folder, write_file
from sectum.cli.search.searching import Searched, onnx_file
from sectum.extras import need_extra
from sectum.zoo import Architecture


def prepare_folder(folder: Path) -> None:
    """Make the folder that is written to, before long work is done for it.

    Raises:
        UsageError: it cannot be made or written, or pictures cannot be drawn.
    """
    need_extra("search", "drawing the front", "matplotlib")
    make_folder(folder)
    check_writable(folder / "front.json")


def write(result: Searched, folder: Path) -> Searched:
    """Write the front into a folder; returns the result with its files.

    Raises:
        UsageError: a file cannot be written.
    """
    from sectum.cli.search.pictures import draw

    files: dict[str, str] = {}
    plan_files: dict[str, str] = {}
    taken: set[Path] = set()
    for name, one in result.named_front():
        path = onnx_file(folder, name)
        if path in taken:
            path = onnx_file(folder, f"{path.stem}_{len(taken)}")
        taken.add(path)
        write_file(path, _content(one.network, result.request.batch))
        files[name] = str(path)
        if one.evaluated.planned:
            plan_files[name] = str(path.with_suffix(".plan.json"))
            write_file(Path(plan_files[name]), _plan(result, path))
    result = replace(result, files=files, plan_files=plan_files)
    draw(result, folder)
    write_file(folder / "front.json", json.dumps(result.to_json(), indent=1, allow_nan=False).encode())
    return result


def _content(network: object, batch: int) -> bytes:
    if isinstance(network, Architecture):
        from sectum.zoo import to_bytes

        return to_bytes(network)
    from sectum.plan.search.network import as_model

    return as_model(network, batch).bound_bytes()


def _plan(result: Searched, model: Path) -> bytes:
    """The plan of a network that was written."""
    from sectum.cli.plan.planning import plan_for
    from sectum.cli.predict.source import Source

    request = result.request
    source = Source(str(model), batch=request.batch)
    found = plan_for(source, result.profile, request.threads, enclave=request.enclave)
    return json.dumps(found.to_json(), indent=1, allow_nan=False).encode()
