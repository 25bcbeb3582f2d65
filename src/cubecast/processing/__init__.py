"""Sends frames through an extension, with decoding before and encoding after it, for live streams and files."""
