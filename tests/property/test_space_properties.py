"""A file of a search space is read as it was meant, or refused; never anything else."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from drawing import examples
from sectum.errors import SpaceInvalid
from sectum.zoo import space_file
from sectum.zoo.elastic import Block
from sectum.zoo.layers import Nonlinearity
from sectum.zoo.space_file import LIMITS

WORDS = ["name", "stage", "stem", "head", "block", "from", "to", "step", "pool", "activation", *LIMITS]
VALUES = st.recursive(
    st.one_of(
        st.integers(-(2**40), 2**40), st.floats(), st.booleans(), st.text(max_size=8), st.sampled_from([*Block, "relu"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)


def toml(value: object) -> str:
    """A value as TOML, tables inline."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case float():
            return repr(value)
        case int():
            return str(value)
    return json.dumps(str(value))


def of(key: str) -> st.SearchStrategy:
    """One choice or several for a size."""
    limits = LIMITS[key]
    if not limits.whole:
        numbers = st.floats(limits.least, limits.most).map(lambda number: round(number, 3))
    elif limits.odd:
        numbers = st.integers(0, int(limits.most) // 2).map(lambda number: 2 * number + 1)
    else:
        numbers = st.integers(int(limits.least), min(int(limits.most), 64 if key != "resolution" else 1024))
    return st.lists(numbers, min_size=1, max_size=4, unique=True)


STAGES = st.fixed_dictionaries(
    {"block": st.sampled_from([str(block) for block in Block]), "channels": of("channels")},
    optional={"depth": of("depth"), "kernel": of("kernel"), "stride": st.integers(1, 4),
              "activation": st.sampled_from([str(one) for one in Nonlinearity])},
)  # fmt: skip
SPACES = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True),
     "stage": st.lists(STAGES, min_size=1, max_size=3)},
    optional={"resolution": of("resolution"), "width": of("width"), "classes": st.integers(1, 50),
              "stem": st.fixed_dictionaries({}, optional={"channels": of("channels"), "pool": st.booleans()}),
              "head": st.fixed_dictionaries({}, optional={"hidden": st.integers(0, 64)})},
)  # fmt: skip


def text_of(content: dict) -> str:
    """A space as the text of its file."""
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in content.items())


def refusal(text: str) -> str:
    """Why a text makes no space; empty if it makes one."""
    try:
        space_file.parse(text, "any.toml")
    except SpaceInvalid as error:
        return str(error)
    return ""


@given(st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=6), VALUES, max_size=6))
@examples(300)
def test_any_file_is_read_or_refused(content):
    """Whatever a file contains, it makes a space or the error that says why not."""
    refused = refusal(text_of(content))
    assert refused.startswith("any.toml") or not refused


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    """Text that is not written for it makes no space."""
    assert refusal(text).startswith("any.toml")


@given(SPACES)
def test_a_file_within_the_limits_means_what_it_says(content):
    """Every choice of a correct file is a choice of the space, in its order, and nothing else is."""
    space = space_file.parse(text_of(content), "good.toml")
    assert space.name == content["name"]
    assert len(space.stages) == len(content["stage"])
    for number, stage in enumerate(content["stage"], 1):
        for key in ("channels", "depth", "kernel"):
            if key in stage:
                assert list(space.sizes[f"stage{number}.{key}"]) == stage[key]
    assert list(space.resolution) == content.get("resolution", [224])
    assert all(len(choices) > 1 for choices in space.parameters.values())


@given(SPACES, st.data())
@examples(40)
def test_choices_of_a_space_make_one_network(content, data):
    """The same choices make the same network; its output has the classes."""
    small = {"resolution": [32], "width": [1]} | {
        key: content[key] for key in ("name", "stage", "classes") if key in content
    }
    for stage in small["stage"]:
        stage["depth"] = [min(one, 3) for one in stage.get("depth", [1])][:1]
    space = space_file.parse(text_of(small), "good.toml")
    chosen = {name: data.draw(st.sampled_from(choices)) for name, choices in space.parameters.items()}
    made, again = space.build(chosen), space.build(dict(reversed(chosen.items())))
    assert made.name == again.name
    assert made.nodes == again.nodes
    assert made.shapes[made.output] == (space.classes,)
