"""The network that the command line names: a file, or ``zoo:NAME``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.options import InputShapes
from sectum.errors import ModelMalformed, ModelUnreadable, ShapeUnbound, UsageError

if TYPE_CHECKING:
    from sectum.graph import Model, ParsedModel
    from sectum.graph.ir import Graph
    from sectum.zoo import Architecture

ZOO = "zoo:"


class Source:
    """One network, as often as it is needed.

    Args:
        text: a path, or ``zoo:NAME``.
        batch: samples in one inference; None for the file's own, or 1 where that is open.
        inputs: shapes of inputs by name.
    """

    def __init__(self, text: str, *, batch: int | None = None, inputs: InputShapes | None = None) -> None:
        self.text = text
        self.batch = batch
        self.inputs = inputs or {}

    @property
    def from_zoo(self) -> bool:
        """Whether it is made, not read."""
        return self.text.startswith(ZOO)

    @property
    def name(self) -> str:
        """What people call it: the file's stem, or the name in the zoo."""
        return self.architecture.name if self.from_zoo else Path(self.text).stem

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the model's file; None where there is no file."""
        return None if self.from_zoo else self._parsed.sha256

    @cached_property
    def graph(self) -> Graph:
        """The network with static shapes. Networks of the zoo are laid out without making their weights."""
        if self.from_zoo:
            from sectum import zoo

            return zoo.to_graph(self.architecture, self._zoo_batch)
        return self.model.graph

    @cached_property
    def model(self) -> Model:
        """The network with its weights, as it is run."""
        if self.from_zoo:
            from sectum import zoo
            from sectum.graph import read

            return read(zoo.to_bytes(self.architecture, batch=self._zoo_batch))
        return self._bound(self.batch, self.inputs)

    @cached_property
    def _parsed(self) -> ParsedModel:
        """The model's file, which is opened and parsed once."""
        from sectum.graph import parse

        self._check_path()
        with self._naming_the_file():
            return parse(Path(self.text))

    def _bound(self, batch: int | None, inputs: InputShapes) -> Model:
        parsed = self._parsed
        with self._naming_the_file():
            try:
                return parsed.bind(batch=batch, inputs=inputs)
            except ShapeUnbound:
                if batch is not None:
                    raise
            return parsed.bind(batch=1, inputs=inputs)  # a model that leaves the number of samples open

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Make sure that errors about the model name its file."""
        try:
            yield
        except ModelMalformed as error:
            if self.text in str(error):
                raise
            raise ModelMalformed(f"{self.text}: {error}") from error

    @cached_property
    def architecture(self) -> Architecture:
        """The network of the zoo, at the resolution that the inputs ask for."""
        from sectum import zoo

        name = self.text.removeprefix(ZOO)
        if not self.inputs:
            return zoo.build(name)
        from sectum.zoo.lowering import INPUT

        shape = self.inputs.get(INPUT, ())
        if len(self.inputs) != 1 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise UsageError(
                "networks of the zoo have one input of square images in three channels: write for example "
                f"--input {INPUT}=1x3x192x192"
            )
        if self.batch is not None and self.batch != shape[0]:
            raise UsageError(f"--batch {self.batch} contradicts --input with a batch of {shape[0]}: leave one out")
        return zoo.build(name, resolution=shape[2])

    def at_batch(self, batch: int) -> Graph:
        """Give the same network with another number of samples. Nothing is read again.

        Raises:
            ModelError: it cannot be re-batched.
        """
        if batch == self.batch:
            return self.graph
        if self.from_zoo:
            from sectum import zoo

            return zoo.to_graph(self.architecture, batch)
        inputs = {name: (batch, *shape[1:]) for name, shape in self.inputs.items()}
        return self._bound(batch, inputs).graph

    def _check_path(self) -> None:
        """Say what else was probably meant where there is no such file."""
        if not self.text:
            raise UsageError("the model's name is empty: give the path of an ONNX file, or zoo:NAME")
        path = Path(self.text)
        if path.exists():
            return
        from sectum import zoo

        name = path.name.lower()
        if name in zoo.names():
            raise ModelUnreadable(f"there is no file '{self.text}': did you mean {ZOO}{name}?")

    @property
    def _zoo_batch(self) -> int:
        shapes = iter(self.inputs.values())
        return self.batch or next(shapes, (1,))[0]
