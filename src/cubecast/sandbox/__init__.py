"""Stream-processing extensions: anyone's code over frames, in a WebAssembly sandbox. docs/extensions.md is for authors."""
