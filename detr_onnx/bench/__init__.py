"""How long it takes and how much memory: ours, engine by engine, beside whatever else runs the same model.

    line_up ── who takes part ──┬─ turns ── contenders (ours), peers (theirs) ──┬─ results ──► table, JSON
                                └─ processes ── whole programs ─────────────────┘

Every contender is a process of its own; this one only starts them, lets one at a time work, and writes down.
"""
