"""Runs the two engines of the live system on an event queue: thousands of hosts, without sockets and without a clock."""
