"""The super-node's protocol: `engine.DirectoryEngine` places hosts, resolves channels, plans trees and assigns jobs."""
