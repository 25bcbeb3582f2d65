"""Signed native and Python extensions, in a confined process of their own."""
