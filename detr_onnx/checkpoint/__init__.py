"""Checkpoint files in any known naming -> canonical tensors."""
