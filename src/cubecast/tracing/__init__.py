"""Traces: each event of an engine and its effects, written as lines of JSON, and what they explain."""
