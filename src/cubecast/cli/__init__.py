"""The command line: parses arguments, calls the packages that do the work, prints text for people or JSON."""
