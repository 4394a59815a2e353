"""Tables and sentences at every width."""

from __future__ import annotations

import pytest

from sectum.cli.render import show

ROWS = [("latency", "702 ms", "predicted; nine of ten lie in 593 ms to 831 ms"), ("pages", "26,738", "loaded")]


@pytest.fixture
def printed(monkeypatch, capsys):
    """Print at a width and give the lines."""

    def at(width, function, *arguments, **options):
        monkeypatch.setattr(show, "_width", lambda: width)
        function(*arguments, **options)
        return capsys.readouterr().out.splitlines()

    return at


def test_wide_enough_a_row_is_a_line(printed):
    """Where there is room every row is one line, its number flush right."""
    assert printed(80, show.rows, ROWS, right=(1,)) == [
        "latency  702 ms  predicted; nine of ten lie in 593 ms to 831 ms",
        "pages    26,738  loaded",
    ]


def test_narrower_the_text_behind_is_wrapped_between_words(printed):
    """The text at the end of a row continues under itself."""
    assert printed(46, show.rows, ROWS, right=(1,))[:2] == [
        "latency  702 ms  predicted; nine of ten lie in",
        "                 593 ms to 831 ms",
    ]


def test_where_it_has_no_room_it_goes_below(printed):
    """A column of a few letters is never made: the text goes on lines of its own."""
    assert printed(34, show.rows, ROWS, right=(1,)) == [
        "latency  702 ms",
        "    predicted; nine of ten lie in",
        "    593 ms to 831 ms",
        "pages    26,738",
        "    loaded",
    ]


@pytest.mark.parametrize("width", [10, 30, 50, 200])
def test_no_number_and_no_word_is_ever_cut_off(printed, width):
    """At any width, all that is in the table is on the screen."""
    words = " ".join(printed(width, show.rows, ROWS, right=(1,), header=("what", "value", "meaning"))).split()
    for cell in (*ROWS[0], *ROWS[1], "what", "value", "meaning"):
        for word in cell.split():
            assert word in words


def test_sentences_are_wrapped_between_words_and_keep_numbers_with_their_units(printed):
    """A line never ends between a number and its unit."""
    lines = printed(28, show.paragraph, "* It takes about as much as 702 ms in 93.0 MiB.", hanging="  ")
    assert lines == ["* It takes about as much as", "  702 ms in 93.0 MiB."]


def test_wide_characters_take_two_columns(printed):
    """Columns stay aligned behind names in scripts whose letters are twice as wide."""
    lines = printed(60, show.rows, [("卷积", "1", "x"), ("conv", "22", "x")], right=(1,))
    assert lines == ["卷积   1  x", "conv  22  x"]
