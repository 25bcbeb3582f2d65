"""Ways for subscribers whose bound no host keeps that is on the tree and has a copy left."""
