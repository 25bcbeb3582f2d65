"""Frames through an extension: decoding and encoding around it, live or from a file."""
