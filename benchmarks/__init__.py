"""Benchmarks: what toplabel promises, measured against the alternatives in the same run."""
