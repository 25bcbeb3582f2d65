"""The shells of the two engines in simulation: hosts, the super-node, and the network between them."""
