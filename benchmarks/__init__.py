"""Benchmarks of arrowstream beside its peers; ``python -m benchmarks.run --help`` says how."""
