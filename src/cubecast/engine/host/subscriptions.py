"""The local user's subscriptions: resolve the channel, search for a parent, then admit or refuse."""

from cubecast.engine.host.effects import Effect, NotFound, Resolve
from cubecast.engine.host.search.searches import Searches
from cubecast.engine.host.search.state import Phase, Purpose, Search
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import ChannelRecord, HostRecord
from cubecast.types import ChannelName


class Subscriptions:
    """The engine owns one and passes it the user's requests and the directory's answers."""

    def __init__(self, downstream: Downstream, searches: Searches) -> None:
        self._downstream = downstream
        self._searches = searches
        self._steps = searches.steps

    def subscribe(self, channel: ChannelName, contract: Contract) -> list[Effect]:
        """Begins a local subscription; a search under way for the channel is replaced."""
        effects = self._abandon_join(channel)
        search = self._steps.open(Purpose.JOIN, channel, contract)
        search.phase = Phase.RESOLVING
        return [*effects, Resolve(channel), search.report("searching")]

    def unsubscribe(self, channel: ChannelName) -> list[Effect]:
        """Ends the local subscription, and the search for it."""
        return [*self._abandon_join(channel), *self._downstream.leave_local(channel)]

    def _abandon_join(self, channel: ChannelName) -> list[Effect]:
        joins = [search for search in self._steps.own(channel) if search.purpose is Purpose.JOIN]
        return [effect for search in joins for effect in self._steps.abandon(search)]

    def on_resolved(self, record: ChannelRecord, grant: str, proposals: tuple[HostRecord, ...]) -> list[Effect]:
        """The directory has named the publisher's seat and possible parents: search for one."""
        effects: list[Effect] = []
        for search in self._resolving(record.channel):
            search.epoch, search.target, search.grant = record.epoch, record.seat, grant
            if record.channel in self._downstream.branches:
                effects += self._steps.grant(search)
            else:
                effects += self._searches.probe(search, record.tree, proposals)
        return effects

    def on_not_found(self, channel: ChannelName, known: tuple[ChannelName, ...]) -> list[Effect]:
        """The directory does not know the channel."""
        effects: list[Effect] = []
        for search in self._resolving(channel):
            report = search.report("refused")
            effects += [*self._steps.abandon(search), NotFound(channel, known), report]
        return effects

    def on_resolve_failed(self, channel: ChannelName, reason: str) -> list[Effect]:
        """The directory refused to resolve the channel, or did not answer."""
        effects: list[Effect] = []
        for search in self._resolving(channel):
            search.reason = reason
            effects += self._steps.refuse(search, None)
        return effects

    def _resolving(self, channel: ChannelName) -> list[Search]:
        return [search for search in self._steps.own(channel) if search.phase is Phase.RESOLVING]
