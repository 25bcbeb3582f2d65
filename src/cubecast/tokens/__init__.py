"""Tokens: who may join, publish, subscribe and relay, and proofs of who asks. JWTs signed with Ed25519 (RFC 7519, 8037)."""
