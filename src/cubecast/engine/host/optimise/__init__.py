"""Better trees while they work: switching to a better parent, and standby parents."""
