"""What the super-node asks a host when it dials back, and what the host answers.

The session's path names the public key of the host that has joined with this address. The host accepts no such session:
it rejects it as unauthorised if the key is its own, and as not found otherwise.
"""

DIAL_BACK_PATH = ".dial-back/"
"""Begin of the path, before the public key, hex; channel names cannot begin with a dot."""
