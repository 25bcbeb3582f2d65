"""Who a peer is and what it may receive: checked on every session and on every request, by this host itself.

By what the super-node signed: a peer's credential, which must be a recent one, and host records. What peers say beyond that
is not believed.
"""

from msgspec.structs import replace

from cubecast.engine.host import events as ev
from cubecast.engine.protocol.messages import Attach, Hello, Message, PathRequest, Relatives, StandbyRequest
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import MessageError, TokenError
from cubecast.host.directory.supernode_time import SupernodeTime
from cubecast.texts import one_line
from cubecast.tokens.authority import Bearer, Verifier
from cubecast.tokens.identity import Identity, audience, verified_host
from cubecast.tokens.jws import unverified
from cubecast.tokens.permission import Permission
from cubecast.types import ChannelName, HostId


class PeerRights:
    """Shows this host's rights to its peers, and checks theirs."""

    def __init__(self, host: HostId, identity: Identity, time: SupernodeTime) -> None:
        """Checks nothing before `trust` has named the super-node.

        Args:
            time: the super-node's; what a peer shows is as recent as this host's own news from there.
        """
        self._host = host
        self._identity = identity
        self._time = time
        self._verifier: Verifier | None = None
        self._audience = ""

    def trust(self, verifier: Verifier, fingerprint: str) -> None:
        """Believes what this super-node signs.

        Args:
            fingerprint: of this host's certificate, which peers name in their tokens.
        """
        self._verifier = verifier
        self._audience = audience(self._host, fingerprint)

    @property
    def public_key(self) -> str:
        """This host's public key, hex."""
        return self._identity.public_key

    def token(self, peer: HostRecord) -> str:
        """A token for one session with a peer, worth nothing elsewhere."""
        return self._identity.token(peer.host, peer.fingerprint, self._time.now_s())

    def bearer(self, token: str) -> Bearer:
        """The peer that opens a session with a token.

        Raises:
            TokenError: the token is not accepted.
        """
        assert self._verifier is not None, "sessions are answered after trust()"
        return verified_host(self._verifier, token, self._audience, self._time.now_s(), self._time.heard_s)

    def may_subscribe(self, channel: ChannelName) -> bool:
        """Whether this host may subscribe to a channel, for itself or for a job; it may relay more than that."""
        permission = Permission.from_claims(unverified(self._identity.credential))
        return permission.may("subscribe", channel) or channel in permission.jobs

    def signed(self, message: Message) -> Message:
        """A message as it is sent: requests show this host's credential."""
        if isinstance(message, PathRequest | Attach | StandbyRequest):
            return replace(message, credential=self._identity.credential)
        return message

    def received(self, host: HostId, message: Message) -> ev.Received | ev.RequestRejected:
        """The engine's event for a message of a peer.

        Raises:
            MessageError: it names a host by a record that the super-node did not sign, or the sender by another's.
        """
        match message:
            case PathRequest() | Attach() | StandbyRequest():
                try:
                    self.check_receives(self._shown(host, message.credential), message.channel)
                except TokenError as error:
                    return ev.RequestRejected(host, message, one_line(str(error)))
            case Hello(record):
                if record.host != host:
                    raise MessageError(f"host {host} introduces itself as {record.host}")
                self._check_record(record)
            case Relatives(hosts=hosts):
                for record in hosts:
                    self._check_record(record)
            case _:
                pass
        return ev.Received(host, message)

    def check_receives(self, bearer: Bearer, channel: ChannelName) -> None:
        """Checks that a host may be sent a channel.

        Raises:
            TokenError: it may not.
        """
        if not bearer.permission.may_receive(channel):
            raise TokenError(f"host {bearer.host} may neither subscribe to {channel} nor relay it")

    def _shown(self, host: HostId, credential: str) -> Bearer:
        assert self._verifier is not None, "messages arrive after trust()"
        bearer = self._verifier.credential(credential, self._time.heard_s)
        if bearer.host != host:
            raise TokenError(f"host {host} shows the credential of host {bearer.host}")
        return bearer

    def _check_record(self, record: HostRecord) -> None:
        assert self._verifier is not None, "messages arrive after trust()"
        if not self._verifier.is_signed(record.signed_content(), record.signature):
            raise MessageError(f"the record of host {record.host} is not signed by the super-node")
