"""How a host finds a parent: for its own subscriber, for another host, after a failure."""
