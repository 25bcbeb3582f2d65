"""Scripted faults on real processes, each a scenario of `cubecast testbed`."""
