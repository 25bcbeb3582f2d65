"""One channel as MoQ tracks: writing and reading frames with their timing records."""
