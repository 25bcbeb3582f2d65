"""The commands that measure and experiment; each module has `run(arguments)`."""
