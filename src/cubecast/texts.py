"""Texts that come from elsewhere: what may stand in one, and how one is shown or sent on."""

import re

TEXT_MAX = 1024
"""Maximum length of a reason or another line for the user that hosts and super-node send each other, characters."""
UNPRINTABLE = "\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
"""The characters, as in a regular expression, that a line does not have: controls (C0, DEL, C1), line separators, those
that change the direction of writing, and lone surrogates, which UTF-8 cannot encode. A terminal obeys the first ones."""
_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")
_CUT = "..."
"""Stands at the end of a line that was cut."""


def printable(text: str) -> str:
    """The text with every unprintable character spelled out: an escape character becomes a backslash and `x1b`."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """The text as it may be sent: printable, TEXT_MAX characters at most."""
    line = printable(text)
    return line if len(line) <= TEXT_MAX else line[: TEXT_MAX - len(_CUT)] + _CUT
