"""The live host: performs the engine's effects with MoQ sessions and HTTP."""
