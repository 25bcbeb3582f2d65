"""The lab: the published experiments, rival systems and further experiments, run with the functions that hosts call."""
