"""Benchmarks. Run `pytest bench/ --benchmark-only`."""
