"""Small packages of Debian, and mirrors that have them, for tests."""

import hashlib
import http.server
import io
import tarfile
import threading


def deb(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A package: an ar archive that holds an archive of files, as dpkg-deb makes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        "data.tar.xz": data.getvalue(),
    }
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        + content
        + b"\n" * (len(content) % 2)
        for name, content in parts.items()
    )


def row(path: str, content: bytes, keep: list[str], **more) -> dict:
    """What `packages.json` says of a file."""
    digest = hashlib.sha256(content).hexdigest()
    return {
        "path": path,
        "bytes": len(content),
        "sha256": digest,
        "keep": keep,
        **more,
    }


class Mirror:
    """A mirror of Debian on this machine.

    Attributes:
        files: What it has, by path.
        asked: What it was asked for: the path, and the range.
        most: Bytes after which it hangs up.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked, self.most = files, [], None
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                wanted = self.headers.get("Range", "")
                mirror.asked.append((self.path, wanted))
                content = mirror.files.get(self.path.lstrip("/"))
                if content is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:][: mirror.most])

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            daemon=True,
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
