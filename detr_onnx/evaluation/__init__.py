"""COCO metrics, and agreement between two models."""
