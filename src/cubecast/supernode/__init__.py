"""The super-node: the directory engine behind an HTTP API, with a store that survives kill -9."""
