"""Malicious hosts, for the test bench `cubecast testbed hostile`: real processes that try what a stranger could."""
