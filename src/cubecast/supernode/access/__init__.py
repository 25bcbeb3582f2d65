"""Who may ask the super-node for what."""
