"""COCO metrics of a model, and agreement between two models."""
