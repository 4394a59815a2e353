"""Search spaces as TOML files: what they may contain, and what is said of what they may not."""

from __future__ import annotations

import pytest

from sectum.errors import SpaceInvalid
from sectum.zoo import space_file
from sectum.zoo.elastic import Block
from sectum.zoo.layers import Nonlinearity

WHOLE = """
name = "mine"
resolution = {from = 32, to = 64, step = 16}
classes = 10
width = [0.5, 1]
[stem]
channels = 16
kernel = [3, 5]
stride = 1
pool = true
activation = "silu"
[[stage]]
block = "inverted"
channels = [16, 24]
depth = {from = 1, to = 3}
kernel = 5
expansion = [2, 4.5]
stride = 2
squeeze = 4
[head]
channels = 64
hidden = 32
"""
STAGE = '[[stage]]\nblock = "plain"\nchannels = 8\n'


def test_every_entry_of_a_file_is_read():
    """What a file says is what the space has."""
    space = space_file.parse(WHOLE, "mine.toml")
    assert (space.name, space.resolution, space.classes, space.width) == ("mine", (32, 48, 64), 10, (0.5, 1))
    assert (space.stem.channels, space.stem.kernel, space.stem.stride, space.stem.pool) == ((16,), (3, 5), 1, True)
    assert space.stem.activation is Nonlinearity.SILU
    (stage,) = space.stages
    assert (stage.block, stage.channels, stage.depth, stage.kernel) == (Block.INVERTED, (16, 24), (1, 2, 3), (5,))
    assert (stage.expansion, stage.stride, stage.squeeze) == ((2, 4.5), 2, 4)
    assert (space.head.channels, space.head.hidden) == (64, 32)
    assert space.count == 3 * 2 * 2 * 2 * 3 * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name =", "is no TOML file"),
        ('name = "a"', "the space is empty; write at least one"),
        ('name = "a"\nstage = 3', "the space is empty"),
        ('name = "a"\nstage = [3]', "stage 1 is 3: write a table"),
        ("name = 'A b'\n" + STAGE, "name is 'A b': write up to 40 small letters"),
        ('name = "a"\ncolour = 3\n' + STAGE, "'colour' is unknown: known are"),
        ('name = "a"\nwidht = 3\n' + STAGE, "'widht' is unknown: did you mean width"),
        ('name = "a"\nwidth = []\n' + STAGE, "width is an empty list: the space would be empty"),
        ('name = "a"\nwidth = [1, 1.0]\n' + STAGE, "contains a number twice"),
        ('name = "a"\nwidth = nan\n' + STAGE, "contains nan: write numbers from 0.05 to 8"),
        ('name = "a"\nresolution = 224.5\n' + STAGE, "contains 224.5: write whole numbers from 16 to 1024"),
        ('name = "a"\nresolution = true\n' + STAGE, "contains True: write whole numbers"),
        ('name = "a"\nresolution = {from = 64, to = 32}\n' + STAGE, "from is 64 and to is 32: the range is empty"),
        ('name = "a"\nresolution = {from = 64}\n' + STAGE, "to is missing: a range is"),
        ('name = "a"\nresolution = {from = 16, to = 1000}\n' + STAGE, "has 985 choices: write at most 64"),
        ('name = "a"\nresolution = {from = 16, to = 32, by = 1}\n' + STAGE, "'by' is unknown"),
        ('name = "a"\nclasses = "many"\n' + STAGE, "classes is 'many': write one of the whole numbers"),
        ('name = "a"\n' + STAGE + "kernel = 4", "stage 1: kernel contains 4: write odd numbers from 1 to 15"),
        (
            'name = "a"\n' + STAGE + "expansion = 4",
            "expansion contradicts the block plain: only bottleneck and inverted",
        ),
        ('name = "a"\n' + STAGE + "squeeze = 4", "squeeze contradicts the block plain: only inverted"),
        ('name = "a"\n[[stage]]\nblock = "plain"', "stage 1: channels is missing"),
        ('name = "a"\n[[stage]]\nchannels = 8', "stage 1: block is missing: write one of plain, residual"),
        ('name = "a"\n[[stage]]\nchannels = 8\nblock = "dense"', "block is 'dense': write one of plain, residual"),
        ('name = "a"\n' + STAGE + 'activation = "tanh"', "activation is 'tanh': write one of relu"),
        ('name = "a"\n' + STAGE * 17, "is there 17 times: write at most 16"),
        ('name = "a"\n' + STAGE + "[stem]\npool = 1", "stem: pool is 1: write true or false"),
        ('name = "a"\n' + STAGE + "[head]\nhidden = -1", "head: hidden is -1"),
    ],
)
def test_what_a_file_may_not_contain_is_told_with_its_place(text, message):
    """A wrong file is refused with what is wrong, where, and what to write."""
    with pytest.raises(SpaceInvalid) as refused:
        space_file.parse(text, "mine.toml")
    assert message in str(refused.value)
    assert str(refused.value).startswith("mine.toml")


def test_files_that_are_none_are_refused(tmp_path):
    """A name that is misspelt, a file that is too large and one that is no text are told apart."""
    with pytest.raises(SpaceInvalid, match=r"no search space 'resnett': did you mean resnet\?"):
        space_file.load("resnett")
    (tmp_path / "large.toml").write_bytes(b"#" * (space_file.MOST_BYTES + 1))
    with pytest.raises(SpaceInvalid, match="larger than 64 KiB"):
        space_file.load(str(tmp_path / "large.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpaceInvalid, match="cannot be read as text"):
        space_file.load(str(tmp_path / "bytes.toml"))
    (tmp_path / "mine.toml").write_text(WHOLE)
    assert space_file.load(str(tmp_path / "mine.toml")).name == "mine"
