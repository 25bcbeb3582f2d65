"""The attacks by name."""

from cubecast.hostile.directory_attacks import (
    act_for_another,
    join_in_a_storm,
    report_for_another,
    report_nonsense,
    take_over_a_name,
)
from cubecast.hostile.peer_attacks import forge_records, read_without_a_right, send_edges, send_garbage
from cubecast.hostile.relay import Mischief
from cubecast.hostile.target import Attack

ATTACKS: dict[str, Attack] = {
    "take-over": take_over_a_name,
    "impersonate": act_for_another,
    "nonsense-reports": report_nonsense,
    "false-reports": report_for_another,
    "join-storm": join_in_a_storm,
    "read": read_without_a_right,
    "forged-records": forge_records,
    "edges": send_edges,
    "garbage": send_garbage,
}
"""Attacks that begin while a stream runs."""
RELAYS: dict[str, Mischief] = {each.value: each for each in Mischief}
"""Relays that are trusted before they turn."""
