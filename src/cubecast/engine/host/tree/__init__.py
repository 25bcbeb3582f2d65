"""Distribution trees as one host sees them: its parent for each channel, and its children."""
