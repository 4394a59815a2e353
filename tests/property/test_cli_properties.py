"""What holds for every name, size and number that the command line may meet."""

from __future__ import annotations

import unicodedata

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum.cli.options import positive, read_inputs, read_size, whole
from sectum.cli.render.figures import number, percent
from sectum.cli.render.untrusted import printable
from sectum.cli.report.charts import text
from sectum.units import format_bytes

CONTEXT = click.Context(click.Command("none"))
OPTION = click.Option(["--none"])
ANY_TEXT = st.text(st.characters(exclude_categories=[]))


@given(ANY_TEXT, st.integers(16, 200))
def test_printable_text_is_visible_short_and_encodable(name, limit):
    """Any name becomes text within the limit that can be encoded and holds no control or format character."""
    shown = printable(name, limit=limit)
    assert len(shown) <= limit
    shown.encode()
    assert not any(unicodedata.category(ch) in ("Cc", "Cf", "Cs", "Zl", "Zp") for ch in shown)


@given(ANY_TEXT)
def test_text_for_html_holds_no_markup(name):
    """Any name becomes HTML text without angle brackets and quotes."""
    written = text(name)
    assert not set("<>\"'") & set(written)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e18, max_value=1e18))
def test_every_number_can_be_written(value):
    """Every finite number up to 1e18 has a text as a number, as memory and as a percentage."""
    assert number(value)
    assert format_bytes(value)
    assert percent(value)


@given(ANY_TEXT)
def test_option_values_are_read_or_refused_with_a_sentence(value):
    """Any text given to an option is read, or refused with a message that says what to write."""

    def message(read) -> str:
        try:
            read()
        except click.BadParameter as error:
            return error.message
        return "write"

    for read in (read_size, whole(100), positive("seconds", 10)):
        assert "write" in message(lambda read=read: read(CONTEXT, OPTION, value))
    assert "write" in message(lambda: read_inputs(CONTEXT, OPTION, (value,)))


@given(st.text(min_size=1), st.lists(st.integers(1, 10**8), min_size=1, max_size=6))
def test_input_shape_survives_being_written(name, shape):
    """A name and shape written as NAME=AxBxC are read back unchanged."""
    written = f"{name}={'x'.join(map(str, shape))}"
    assert read_inputs(CONTEXT, OPTION, (written,)) == {name: tuple(shape)}


def test_input_twice_is_refused():
    """Two shapes for one input are a usage error."""
    with pytest.raises(click.BadParameter):
        read_inputs(CONTEXT, OPTION, ("a=1", "a=2"))
