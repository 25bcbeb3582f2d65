"""A bare moq-rs relay, the reference of `cubecast bench relay`: one origin, filled from upstream and served downstream.

    python -m cubecast.bench.bare_relay ADDRESS FINGERPRINT

connects to the server at ADDRESS, prints its own address and certificate fingerprint as one line, and serves until it is
terminated.
"""

import asyncio
import sys

import moq

CACHE_BYTES = 32 << 20
"""Capacity of each origin's cache, bytes; as CACHE_BYTES of cubecast.host.media.channels."""


def client(address: str, fingerprint: str, origin: moq.OriginProducer) -> moq.Client:
    """A client that writes into `origin` everything that the server at `address` publishes."""
    return moq.Client(
        f"https://{address}/bench",
        tls_fingerprints=[fingerprint],
        websocket_enabled=False,
        reconnect=False,
        subscribe=origin,
        publish=moq.OriginProducer(),
    )


async def relay(upstream: str, fingerprint: str) -> None:
    """Relays what the server at `upstream` publishes, until cancelled."""
    origin = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
    async with (
        moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=origin, subscribe=None) as server,
        client(upstream, fingerprint, origin),
    ):
        print(server.local_addr, server.cert_fingerprints()[0], flush=True)
        await server.serve()


if __name__ == "__main__":
    asyncio.run(relay(*sys.argv[1:]))
