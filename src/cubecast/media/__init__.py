"""Reads, transcodes and writes media with PyAV. No other package imports `av`."""
