"""HTTP servers of tests, which write nothing to stderr."""

from __future__ import annotations

from http.server import ThreadingHTTPServer


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is expected."""


class Quiet:
    """A base of request handlers, before the standard library's."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""
