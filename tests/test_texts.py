"""What may stand in a line from elsewhere."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from cubecast.engine.protocol.ranges import Text
from cubecast.texts import TEXT_MAX, one_line, printable

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=2 * TEXT_MAX)


@given(ANYTHING)
def test_whatever_is_made_one_line_can_be_sent(text: str) -> None:
    assert convert(one_line(text), Text) == one_line(text)
    one_line(text).encode()


@given(ANYTHING)
def test_what_is_shown_has_nothing_that_a_terminal_obeys_and_what_is_harmless_is_unchanged(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in shown)
    assert shown == text or len(shown) > len(text)


def test_an_escape_sequence_is_spelled_out() -> None:
    assert printable("\x1b[2Jé\ud800\n") == "\\x1b[2Jé\\ud800\\n"
