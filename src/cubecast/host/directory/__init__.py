"""The HTTP client for the super-node, and a host's session with it."""
