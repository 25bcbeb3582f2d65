"""Algorithms of the overlay: pure functions over numbers and arrays, without I/O, clock or global state."""
