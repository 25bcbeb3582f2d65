"""An Internet on one machine: datagrams between hosts cross a delay stage; a testbed starts real processes on it."""
