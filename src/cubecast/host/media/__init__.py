"""The data plane: MoQ sessions to parents, children and neighbours over one UDP port."""
