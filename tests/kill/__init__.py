"""Kills of real commands at any moment, and what they must not do to files: `python -m tests.kill`."""
