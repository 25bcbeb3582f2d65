"""How subscribers are admitted whose bound no host keeps that is on the tree and has spare fan-out."""
