"""Pure algorithms of the overlay: plain functions over numbers and arrays, no I/O, no clock, no global state."""
