"""The super-node: the directory engine behind an HTTP API, with a store on disk that survives kill -9."""
