"""The page in a browser, from this machine alone."""

from __future__ import annotations

import errno
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rb_smooth.core.console import console, log_info
from rb_smooth.core.errors import UserError
from rb_smooth.leaderboard.page.render import write_page

_HOST = "127.0.0.1"


def serve(leaderboard: Path, port: int = 8000, open_browser: bool = True) -> None:
    """Build the page and serve it on 127.0.0.1 until Ctrl-C. port: 0 takes a free one; which, a line says.

    Only the page is served, and read anew at every request: after `page`, reloading shows what is new. Raises UserError
    where the port is taken.
    """
    with make_server(write_page(leaderboard), port) as running:
        address = f"http://{_HOST}:{running.server_address[1]}/"
        try:
            console.print(f"page: {address} (Ctrl-C ends it)")
            if open_browser:
                webbrowser.open(address)
            running.serve_forever()
        except KeyboardInterrupt:
            log_info("stopped")


def make_server(path: Path, port: int) -> ThreadingHTTPServer:
    """A server of one file, to this machine. Raises UserError where the port is taken or not to be had."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/", "/index.html"):
                self.send_error(404)
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    try:
        return ThreadingHTTPServer((_HOST, port), Handler)
    except OverflowError:
        raise UserError(f"expected a port from 0 to 65535, got {port}; choose another --port") from None
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UserError(f"expected a free port, got {port}: {error.strerror}; choose another --port") from None
