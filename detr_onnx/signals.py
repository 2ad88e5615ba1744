"""The signals by which a process is asked to end."""

from __future__ import annotations

import signal

TERMINATION = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name))
"""What service managers and containers send. On Windows nobody can send SIGTERM; there it is SIGBREAK (Ctrl-Break)."""
STOP = (signal.SIGINT, *TERMINATION)
"""These, and Ctrl-C."""
