"""What hosts and the directory both speak: records, path metrics, messages and HTTP bodies."""
