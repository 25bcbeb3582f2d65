"""The super-node's protocol: `engine.DirectoryEngine` assigns seats, resolves channels, plans trees and assigns jobs."""
