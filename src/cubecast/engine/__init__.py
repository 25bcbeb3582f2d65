"""The sans-I/O engine: HostEngine and DirectoryEngine, handle(event, now) -> list of effects.

No socket, clock, file or random module here. The live host and the simulator run this same code.
"""
