"""The WebAssembly runtime: engine, deadlines and fast calls."""
