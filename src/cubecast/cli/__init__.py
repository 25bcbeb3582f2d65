"""The command line: reads arguments, composes the floors below, prints for people or as JSON."""
