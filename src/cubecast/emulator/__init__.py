"""An emulated Internet on one machine: a delay stage between hosts, and testbeds of real processes on top of it."""
