"""The two engines that run live, run on an event queue: thousands of hosts, without sockets and without a clock."""
