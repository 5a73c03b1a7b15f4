"""Web server on loopback that answers requests for parts of files, and counts what it was asked."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve(folder: Path, breaks_at: int | None = None) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Serve a folder; yield its address, and method, path and range of every request so far.

    Args:
        folder: what is served; a folder in it is a page of links.
        breaks_at: end each answer to a whole GET of a tar after so many bytes, as a broken connection does.
    """
    asked: list[tuple[str, str, str]] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            pass

        def send_head(self) -> None:  # type: ignore[override]
            path, span = Path(self.translate_path(self.path)), self.headers.get("Range", "")
            asked.append((self.command, self.path, span))
            if path.is_dir():
                links = "".join(f'<a href="{entry.name}">{entry.name}</a>' for entry in sorted(path.iterdir()))
                self.answer(200, links.encode(), {"Content-Type": "text/html"})
            elif not path.is_file():
                self.answer(404, b"", {})
            else:
                data, headers = path.read_bytes(), {"Accept-Ranges": "bytes", "ETag": f'"{path.stat().st_mtime_ns}"'}
                if found := re.fullmatch(r"bytes=(\d+)-(\d*)", span):
                    start, end = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
                    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
                    self.answer(206, data[start : end + 1], headers)
                else:
                    cut = breaks_at if self.command == "GET" and path.suffix == ".tar" else None
                    self.answer(200, data, headers, cut)

        def answer(self, status: int, data: bytes, headers: dict[str, str], cut: int | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[:cut])
            self.close_connection |= cut is not None

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that has read enough

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()
