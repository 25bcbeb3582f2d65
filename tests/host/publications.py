"""Publications for tests: what signs them, and the key that checks it."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.host.channel.signing import ChannelSigner, Publication, PublisherKey
from cubecast.types import ChannelName


def a_publication(number: int = 7, key: Ed25519PrivateKey | None = None) -> tuple[ChannelSigner, PublisherKey]:
    """What signs a publication of a channel, and the key that checks it."""
    key = key or Ed25519PrivateKey.generate()
    publication = Publication(ChannelName("news"), number)
    return ChannelSigner(key, publication), PublisherKey(publication, key.public_key().public_bytes_raw().hex())
