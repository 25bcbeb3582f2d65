"""Channels that this host makes from others with extensions."""
