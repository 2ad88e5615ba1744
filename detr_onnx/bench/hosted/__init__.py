"""Compare the hosted API with `Detector` on this machine: answers, accuracy, latency, cost.

    images ──┬─ threads, client ─► journal ─► replies ────┬─ comparison ──► results ─► table, page
             └─ Detector ───────────────────► detections ─┤
    annotations ──────────────────────────────────────────┴─ accuracy ──► AP, bootstrap
    images ──── latency ─► the same requests to both sides, at several concurrencies

The sides run one after the other, so neither disturbs the other's times. Every reply is in the journal at once: the
same command resumes an interrupted run and never pays for an answer twice. `run.py` has the order of the steps.
"""
