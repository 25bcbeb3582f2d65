"""File descriptors: how many this process may have open at the same time. Each socket and each open file takes one."""

import resource
from collections.abc import Callable

DESCRIPTORS_WANTED = 65_536
"""Number of file descriptors asked for where the system has no hard limit: more than a host or super-node uses."""


def raise_descriptor_limit(notify: Callable[[str], None] = lambda _: None) -> int:
    """Raises the soft limit of this process to its hard limit, and returns the soft limit that holds then.

    Args:
        notify: called with one line for the user if the limit cannot be raised.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        notify(f"the limit of open files stays at {soft}, {wanted} were wanted: {error}; raise it with `ulimit -n`")
        return soft
    return wanted
