"""Models of the Internet below the overlay, shared by the lab and the emulator: delays between hosts, and the links
that a packet crosses."""
