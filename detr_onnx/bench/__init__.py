"""Latency, throughput and memory of this package's engines and of other programs that run the same model.

    cases ── what is measured ──┬─ interleave ── ours, baselines ──┬─ report ──► table, JSON
                                └─ processes ── whole programs ────┘

Every contender is a process of its own. The benchmark starts them, lets one at a time work, and records the results.
"""
