"""One host's protocol: `engine.HostEngine` takes events and returns effects."""
