"""Extensions that process streams: third-party code in a WebAssembly sandbox, or trusted code. See docs/extensions.md."""
