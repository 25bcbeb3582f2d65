"""Subscriptions of this host's own user."""
