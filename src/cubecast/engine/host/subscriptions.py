"""The local user's subscriptions: resolve the channel, search for a parent, then admit or refuse."""

from cubecast.engine.host.effects import Effect, NotFound, Resolve
from cubecast.engine.host.search.searches import Searches
from cubecast.engine.host.search.state import Phase, Purpose
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import ChannelRecord, HostRecord
from cubecast.types import ChannelName


class Subscriptions:
    """Local subscriptions by channel. The engine owns one and passes it the user's wishes and the directory's answers."""

    def __init__(self, downstream: Downstream, searches: Searches) -> None:
        self._downstream = downstream
        self._searches = searches

    def subscribe(self, channel: ChannelName, contract: Contract) -> list[Effect]:
        """Starts a local subscription."""
        effects: list[Effect] = []
        for search in self._searches.own(channel):
            if search.purpose is Purpose.JOIN:
                effects += self._searches.abandon(search)
        search = self._searches.open(Purpose.JOIN, channel, contract)
        search.phase = Phase.RESOLVING
        return [*effects, Resolve(channel), search.report("searching")]

    def unsubscribe(self, channel: ChannelName) -> list[Effect]:
        """Ends the local subscription, and the search for it."""
        effects: list[Effect] = []
        for search in self._searches.own(channel):
            if search.purpose is Purpose.JOIN:
                effects += self._searches.abandon(search)
        return effects + self._downstream.leave_local(channel)

    def resolved(self, record: ChannelRecord, grant: str, proposals: tuple[HostRecord, ...]) -> list[Effect]:
        """The directory knows the publisher's seat and who may be a parent: search for one."""
        effects: list[Effect] = []
        for search in self._searches.own(record.channel):
            if search.phase is not Phase.RESOLVING:
                continue
            search.epoch, search.target, search.grant = record.epoch, record.seat, grant
            if record.channel in self._downstream.branches:
                effects += self._searches.grant(search)
            else:
                effects += self._searches.probe(search, record.tree, proposals)
        return effects

    def not_found(self, channel: ChannelName, known: tuple[ChannelName, ...]) -> list[Effect]:
        """The directory does not know the channel."""
        effects: list[Effect] = []
        for search in self._searches.own(channel):
            if search.phase is Phase.RESOLVING:
                report = search.report("refused")
                effects += [*self._searches.abandon(search), NotFound(channel, known), report]
        return effects

    def resolve_failed(self, channel: ChannelName, reason: str) -> list[Effect]:
        """The directory refused to resolve the channel, or is away."""
        effects: list[Effect] = []
        for search in self._searches.own(channel):
            if search.phase is Phase.RESOLVING:
                search.reason = reason
                effects += self._searches.refuse(search, None)
        return effects
