"""A derived channel that is made on this host: another channel, processed by an extension."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from cubecast.client.events import (
    DerivedAnnounced,
    DerivedFinished,
    DerivedStatus,
    Event,
    ExtensionFailing,
    ExtensionUpgraded,
    UpgradeFailed,
)
from cubecast.client.ranges import checked_choice, checked_contract
from cubecast.client.status import STATUS_S, while_running
from cubecast.engine.protocol.records import Tree
from cubecast.errors import CubecastError, UsageError
from cubecast.host.derived.channel import DerivedChannel
from cubecast.host.local.subscription import Subscription
from cubecast.host.runtime import HostRuntime
from cubecast.names import check_name
from cubecast.processing.pipeline import Pipeline
from cubecast.sandbox.loading import Extension, aside, examine, load
from cubecast.sandbox.wasm.compilation import Compilation
from cubecast.types import ChannelName


def check_derivation(source: str, channel: str) -> None:
    """Checks the names of a derived channel and its source.

    Raises:
        UsageError: a name is not allowed, or both are the same.
    """
    for name in (source, channel):
        check_name("channel name", name)
    if source == channel:
        raise UsageError(f"IN and OUT are both {source}; a channel is not made from itself")


class Derivation:
    """A derived channel that Host.process makes."""

    def __init__(
        self,
        source: str,
        channel: str,
        extension: str,
        bound_ms: float,
        *,
        config: Mapping[str, str] | None = None,
        rate_bps: float = 0.0,
        loss: float = 1.0,
        tree: Tree = Tree.HYBRID,
        trusted: Path | None = None,
    ) -> None:
        """A derived channel; the extension is examined here, and compiled by `load` or Host.process.

        Args:
            source: the channel that is received.
            channel: the channel that is made.
            extension: a module's file, signed code, or the name of a shipped extension.
            bound_ms: greatest delay from capture to arrival at this host, ms.
            config: settings of the extension.
            rate_bps, loss: the other terms of the contract, as in Host.subscribe.
            tree: how hosts choose their parents for the derived channel.
            trusted: file of public keys whose native and Python code may run; None takes the user's configuration.

        Raises:
            ExtensionRefused: the extension's file or manifest is not in order.
            UsageError: a name is not allowed, or a term of the contract is outside its range.
        """
        check_derivation(source, channel)
        self._contract, self._tree = (
            checked_contract(source, bound_ms, rate_bps, loss),
            checked_choice("tree", tree, Tree),
        )
        self._source, self._channel, self._config = ChannelName(source), ChannelName(channel), dict(config or {})
        self._extension, self._trusted = extension, trusted
        examine(extension)
        self._loaded: Extension | None = None
        self._upgrade_requested = asyncio.Event()

    def load(self) -> None:
        """Loads the extension before Host.process does; it may take seconds, and must not be called on an event loop.

        Raises:
            ExtensionRefused: the extension, its interface or its signature is not in order.
            LocalError: other users can write a file that decides which code runs.
        """
        self._loaded = self._load(None)

    def upgrade(self) -> None:
        """Loads the extension's file again and continues with it; a file that is not in order changes nothing."""
        self._upgrade_requested.set()

    async def run(self, runtime: HostRuntime, emit: Callable[[Event], None]) -> None:
        """Makes the channel until its source ends; used by Host.process, which documents the errors."""
        extension = self._loaded
        if extension is None:
            extension = await aside(self._load)
        derived = DerivedChannel(self._source, self._channel, extension, self._config, self._contract, self._tree)

        def announced(subscription: Subscription, pipeline: Pipeline) -> None:
            tracks = tuple(str(track) for track in pipeline.tracks)
            promised_ms = subscription.terms.metrics.least_bound_ms
            emit(DerivedAnnounced(derived.channel, derived.source, tracks, promised_ms))

        async with while_running(lambda: self._report(derived, emit), lambda: self._upgrade(derived, emit)):
            await derived.run(runtime, announced)
        emit(DerivedFinished(derived.channel, derived.progress()))

    def _load(self, compilation: Compilation | None) -> Extension:
        return load(self._extension, trusted=self._trusted, compilation=compilation)

    async def _upgrade(self, derived: DerivedChannel, emit: Callable[[Event], None]) -> None:
        while True:
            await self._upgrade_requested.wait()
            self._upgrade_requested.clear()
            try:
                extension = await aside(self._load)
                await derived.upgrade(extension)
            except CubecastError as error:
                emit(UpgradeFailed(derived.channel, str(error)))
            else:
                manifest = extension.manifest
                emit(ExtensionUpgraded(derived.channel, f"{manifest.name} {manifest.version}"))

    async def _report(self, derived: DerivedChannel, emit: Callable[[Event], None]) -> None:
        failures = 0
        while True:
            await asyncio.sleep(STATUS_S)
            progress = derived.progress()
            emit(DerivedStatus(derived.channel, progress))
            if progress.failures > failures:
                emit(ExtensionFailing(derived.channel, progress))
            failures = progress.failures
