"""Models of the physical network: one-way delays between hosts, and the links that a packet crosses."""
