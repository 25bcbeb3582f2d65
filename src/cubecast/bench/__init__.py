"""Benchmarks that users run: figures against their bars, paired in one run."""
