"""Names that are accepted, and others that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import UsageError
from cubecast.names import NAME_MAX, check_name

LETTERS = "azAZ09_-"


@given(st.text(LETTERS, min_size=1, max_size=1), st.text(LETTERS + ".", max_size=NAME_MAX - 1))
def test_names_of_letters_digits_dots_dashes_and_underscores_are_allowed(first: str, rest: str) -> None:
    check_name("host name", first + rest)


@pytest.mark.parametrize("name", ["", ".a", "..", "a b", "a/b", "ä", "a\n", "a" * (NAME_MAX + 1), "/" * (NAME_MAX + 1)])
def test_other_names_are_refused_with_what_they_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"channel name .* is not allowed"):
        check_name("channel name", name)
