"""The hosted API beside `Detector` here, over a folder of images: what differs, how long each takes, what it costs.

    folder ── photographs_in ──► photographs ──┬─ ask_all ── journal ──► replies ──┬─ views ──► results, table, HTML
                                               └─ look_at_all, Detector ────────────┘

The far side goes first and alone, so that neither disturbs the other's times. What it said is in the journal at once;
the same command goes on where an earlier one stopped, and pays for no image twice.
"""
