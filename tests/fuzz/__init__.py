"""Seeded mutation fuzzers: `python -m tests.fuzz KIND --count N --seed S`.

A kind starts from valid inputs, mutates them and gives them to a reader. The reader must accept each or raise one of
its own errors, in bounded time and memory; anything else is a fault. `kinds.py` lists the kinds, `run.py` says what
one needs.
"""
