"""Inputs that once crashed this package, took all its time or memory, or gave a wrong result; one module per area.

A new one is a few lines that build the input, and a test that says the right answer. `conftest.py` bounds the time and
memory of every test here.
"""
