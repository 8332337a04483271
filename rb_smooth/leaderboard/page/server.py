"""Serve the leaderboard page on this machine and open it in a browser."""

from __future__ import annotations

import webbrowser
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rb_smooth.core.console import console, log_info
from rb_smooth.core.errors import UserError, first_line
from rb_smooth.leaderboard.page.detail_files import detail_file
from rb_smooth.leaderboard.page.render import write_page

_HOST = "127.0.0.1"


def serve(leaderboard: Path, port: int = 8000, open_browser: bool = True) -> None:
    """Build the page and serve it on 127.0.0.1 until Ctrl-C. port: 0 picks a free one; the address is printed.

    Every request reads the file again, so that reloading shows a rebuilt page. Raises UserError if the port is taken.
    """
    with make_server(write_page(leaderboard), port) as server:
        address = f"http://{_HOST}:{server.server_address[1]}/"
        try:
            console.print(f"page: {address} (Ctrl-C ends it)")
            if open_browser:
                webbrowser.open(address)
            server.serve_forever()
        except KeyboardInterrupt:
            log_info("stopped")


def make_server(page: Path, port: int) -> ThreadingHTTPServer:
    """A server of the file `page` and the models' details beside it alone, on 127.0.0.1.

    Raises UserError if the port is taken or not allowed.
    """

    class Handler(SimpleHTTPRequestHandler):
        def parse_request(self) -> bool:
            """Refuse names of other hosts: a page of theirs, whose name leads to this machine, could read this one."""
            if not super().parse_request():
                return False
            if self.headers.get("Host", "").partition(":")[0].lower() in (_HOST, "localhost"):
                return True
            self.send_error(HTTPStatus.FORBIDDEN, f"expected the address http://{_HOST}")
            return False

        def translate_path(self, path: str) -> str:
            address = path.partition("?")[0]
            found = page if address in ("/", "/index.html") else detail_file(page.parent, address)
            return str(found or page / "missing")  # below a file there is nothing: 404

        def end_headers(self) -> None:
            self.send_header("Cache-Control", "no-store")
            super().end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    try:
        return ThreadingHTTPServer((_HOST, port), Handler)
    except (OverflowError, OSError) as error:
        raise UserError(f"expected a free port, got {port}: {first_line(error)}; choose another --port") from None
