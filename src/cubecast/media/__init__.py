"""Encoded media: reading sources and writing sinks through PyAV. The only importers of av."""
