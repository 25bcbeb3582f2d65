"""Explains a trace: why each subscriber has its parent, was refused, or moved, in sentences.

Only lines of the subscriber's own host are needed; those of other hosts and of the super-node are ignored.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cubecast.errors import UsageError

CONSIDERED_MAX = 5
"""Hosts that one decision lists; the others are counted."""


@dataclass(slots=True)
class Story:
    """What happened to one subscriber of one channel, in order."""

    channel: str
    subscriber: str
    began_s: float
    sentences: list[str] = field(default_factory=list)


class Explanation:
    """Reads the lines of a trace, and keeps the stories of the subscribers asked for."""

    def __init__(self, channel: str = "", subscriber: str = "") -> None:
        """Nothing read yet.

        Args:
            channel, subscriber: only these; empty for all.
        """
        self._channel, self._subscriber = channel, subscriber
        self._stories: dict[tuple[str, str], Story] = {}
        self._routes: dict[tuple[str, str], list[str]] = {}
        self._began_s: float | None = None
        self.incomplete = 0
        """Lines that are no JSON objects of a trace: the last one of a process that was killed, for example."""

    def read(self, lines: Iterable[bytes]) -> None:
        """Reads lines, in the order of the file."""
        for line in lines:
            if not line.strip():
                continue
            try:
                entry = msgspec.json.decode(line)
                self._add(entry)
            except (msgspec.DecodeError, KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError):
                self.incomplete += 1

    def stories(self) -> list[Story]:
        """The stories by channel and subscriber.

        Raises:
            UsageError: there are none; the message says why.
        """
        if not self._stories:
            which = " and ".join(
                f"{name} {value}"
                for name, value in (("channel", self._channel), ("subscriber", self._subscriber))
                if value
            )
            raise UsageError(
                f"the trace has no subscription{f' of {which}' if which else ''}; "
                "trace the commands that subscribe, and check the names"
            )
        return [self._stories[key] for key in sorted(self._stories)]

    # ------------------------------------------------------------------ reading

    def _add(self, entry: dict[str, Any]) -> None:
        host, now = entry["at"], float(entry["t"])
        if self._began_s is None:
            self._began_s = now
        if "ended" in entry:
            return
        if self._subscriber and host != self._subscriber:
            return
        event = entry["event"]
        if event["kind"] == "SubscribeRequested" and self._wanted(event["channel"]):
            self._tell(entry, event["channel"], f"asked for it {_terms(event['contract'])}")
        if event["kind"] == "RoutesFound" and self._wanted(event["channel"]):
            self._tell_routes(entry, event)
        for effect in entry["effects"]:
            if self._wanted(effect.get("channel", "")):
                self._effect(entry, effect)

    def _wanted(self, channel: str) -> bool:
        return not self._channel or channel == self._channel

    def _tell(self, entry: dict[str, Any], channel: str, sentence: str) -> None:
        key = (channel, entry["at"])
        story = self._stories.get(key)
        if story is None:
            story = self._stories[key] = Story(channel, entry["at"], float(entry["t"]))
        story.sentences.append(f"{float(entry['t']) - story.began_s:8.2f} s  {sentence}")

    def _tell_routes(self, entry: dict[str, Any], event: dict[str, Any]) -> None:
        answer = event["answer"]
        if answer is None:
            self._tell(entry, event["channel"], "asked the super-node for routes over further hosts; it did not answer")
            return
        routes = [
            " < ".join((route["first"]["host"], *route["onward"])) for route in answer["routes"] if route["onward"]
        ]
        found = f"found {'; '.join(routes[:CONSIDERED_MAX])}" if routes else "found none"
        measured = f", named {len(answer['probes'])} more to measure" if answer["probes"] else ""
        self._tell(
            entry,
            event["channel"],
            f"no host known to carry it would do, so the super-node looked for routes over others: {found}{measured}",
        )

    def _effect(self, entry: dict[str, Any], effect: dict[str, Any]) -> None:
        channel = effect.get("channel", "")
        considered = entry.get("considered", {}).get(channel, [])
        match effect["kind"]:
            case "Admitted":
                self._tell(entry, channel, _admitted(effect, considered))
            case "Refused":
                for sentence in _refused(effect, considered):
                    self._tell(entry, channel, sentence)
            case "ParentChanged":
                self._tell(entry, channel, _moved(effect, considered))
            case "NotFound":
                self._tell(entry, channel, "refused: no such channel is announced")
            case "StreamEnded":
                self._tell(entry, channel, f"the stream ended: {effect.get('reason') or 'it is over'}")


# ---------------------------------------------------------------------- sentences


def _terms(contract: dict[str, Any]) -> str:
    terms = [f"within {contract['bound_ms']:.0f} ms"]
    if contract["rate_bps"]:
        terms.append(f"at {contract['rate_bps'] / 1000:.0f} kbit/s or more")
    if contract["loss"] < 1:
        terms.append(f"with at most {contract['loss']:.2%} lost")
    return ", ".join(terms)


def _least_ms(metrics: dict[str, Any]) -> float:
    return float(metrics["delay_ms"]) + float(metrics["spread_ms"])


def _path(hosts: list[str]) -> str:
    return " > ".join(hosts)


def _admitted(effect: dict[str, Any], considered: list[dict[str, Any]]) -> str:
    metrics, bound_ms = effect["metrics"], float(effect["contract"]["bound_ms"])
    path, least_ms = metrics["path"], _least_ms(metrics)
    parent = path[-2] if len(path) > 1 else path[0]
    others = [
        _alternative(each, least_ms) for each in considered if each["host"] != parent and each["path"][-1] == path[-1]
    ]
    compared = f"; of the others, {_listed(others)}" if others else "; no other host was known to carry it"
    return f"admitted: {parent} feeds it ({_path(path)}), which keeps {least_ms:.0f} ms of {bound_ms:.0f}{compared}"


def _alternative(each: dict[str, Any], least_ms: float) -> str:
    there_ms = float(each["least_bound_ms"])
    if each["spare"] <= 0:
        return f"{each['host']} ({there_ms:.0f} ms) had no spare fan-out"
    if there_ms >= least_ms:
        return f"{each['host']} would have given {there_ms:.0f} ms"
    return f"{each['host']} would have given {there_ms:.0f} ms, and was measured later or did not accept"


def _refused(effect: dict[str, Any], considered: list[dict[str, Any]]) -> Iterator[str]:
    bound_ms, best, reason = float(effect["contract"]["bound_ms"]), effect["best"], effect["reason"]
    if best is None:
        yield f"refused: no path was found at all ({reason})"
    else:
        least_ms = _least_ms(best)
        if least_ms > bound_ms:
            yield (
                f"refused: the best path, {_path(best['path'])}, keeps {least_ms:.0f} ms, {least_ms - bound_ms:.0f} ms "
                f"more than {bound_ms:.0f}"
            )
        else:
            yield f"refused: {reason}"
    obstacles = [_obstacle(each, bound_ms) for each in considered]
    if obstacles:
        yield f"  what stood in the way: {_listed(obstacles)}"


def _obstacle(each: dict[str, Any], bound_ms: float) -> str:
    link_ms, least_ms = float(each["link_ms"]), float(each["least_bound_ms"])
    if each["spare"] <= 0:
        return f"{each['host']} had no spare fan-out (its path would keep {least_ms:.0f} ms)"
    late_ms = least_ms - bound_ms
    if late_ms <= 0:
        return f"{each['host']} would keep {least_ms:.0f} ms, but did not accept"
    if link_ms > bound_ms:
        return f"the link from {each['host']} alone takes {link_ms:.0f} ms, {link_ms - bound_ms:.0f} too much"
    return f"{each['host']} gets it after {least_ms - link_ms:.0f} ms and its link takes {link_ms:.0f} ms: {late_ms:.0f} too much"


def _moved(effect: dict[str, Any], considered: list[dict[str, Any]]) -> str:
    least_ms = {each["host"]: float(each["least_bound_ms"]) for each in considered}
    before, after = effect["before"], effect["after"]
    figures = [f"{host} keeps {least_ms[host]:.0f} ms" for host in (after, before) if host in least_ms]
    return f"moved from {before} to {after}: {effect['reason']}{f' ({_listed(figures)})' if figures else ''}"


def _listed(parts: list[str]) -> str:
    more = f"; {len(parts) - CONSIDERED_MAX} more" if len(parts) > CONSIDERED_MAX else ""
    return "; ".join(parts[:CONSIDERED_MAX]) + more
