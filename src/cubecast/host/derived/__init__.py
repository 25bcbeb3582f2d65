"""Derived channels: this host receives a channel, processes it with an extension, and publishes the result."""
