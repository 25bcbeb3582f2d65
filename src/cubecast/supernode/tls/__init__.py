"""TLS for the super-node's API: its certificate, and the handshakes of its connections."""
