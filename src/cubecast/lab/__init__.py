"""The lab: the published experiments, the rivals and what goes beyond them, with the functions that hosts call."""
