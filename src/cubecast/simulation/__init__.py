"""The engine that runs live, run on an event queue: thousands of hosts, no sockets and no clock."""
