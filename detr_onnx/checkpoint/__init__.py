"""Checkpoint files of any naming -> canonical parameters."""
