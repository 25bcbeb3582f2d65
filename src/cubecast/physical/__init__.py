"""Models of the Internet below the overlay: delays between hosts, and the links that a packet crosses."""
