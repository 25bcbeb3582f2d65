"""What commands print: text for people, JSON lines for programs."""
