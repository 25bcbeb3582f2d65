"""The WebAssembly runtime: engine, deadlines, pre-bound calls."""
