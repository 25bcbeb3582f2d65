"""The output of commands: text for people, JSON lines for programs."""
