"""Benchmarks: each figure a ratio against a named reference, measured in the same run."""
