"""The server on this machine: what it gives, and what it refuses."""

import http.client
import socket

import pytest

from penjing.web.local_server import MAX_BODY, LocalServer, Response, file_response

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "root").mkdir()
    (folder / "root" / "page.html").write_text("<p>hello</p>")
    (folder / "root" / "code.wasm").write_bytes(b"\0asm")
    (folder / "secret.txt").write_text("secret")

    def respond(request):
        if request.method == "POST":
            return Response(200, request.body[::-1])
        return file_response(folder / "root", request.path)

    with LocalServer(respond) as running:
        yield running


def ask(server, method, path, body=None, headers=None):
    host = server.address.removeprefix("http://").strip("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in (headers or {}))
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    if body is not None and "Content-Length" not in (headers or {}):
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response.headers


def test_files_come_with_their_type_and_the_headers_of_threads(server):
    status, content, headers = ask(server, "GET", "/page.html?now=1")
    assert (status, content) == (200, b"<p>hello</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert ask(server, "GET", "/code.wasm")[2]["Content-Type"] == "application/wasm"


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret.txt", "/%2e%2e/secret.txt", "/missing", "/", "//etc/passwd"),
        "/" + 5000 * "a",
    ],
)
def test_nothing_outside_the_folder_is_given(server, path):
    status, content, _ = ask(server, "GET", path)
    assert status == 404
    assert b"secret" not in content


def test_pages_from_elsewhere_are_refused(server):
    port = server.address.rpartition(":")[2].strip("/")
    assert ask(server, "GET", "/page.html", headers={"Host": "evil.example"})[0] == 403
    assert (
        ask(server, "GET", "/page.html", headers={"Host": f"localhost:{port}"})[0]
        == 200
    )


def test_bodies_are_read_and_bounded(server):
    assert ask(server, "POST", "/", b"abc")[:2] == (200, b"cba")
    for length in (str(MAX_BODY + 1), "-1", "many"):
        headers = {"Content-Length": length}
        assert ask(server, "POST", "/", b"abc", headers)[0] == 413


def test_half_a_body_is_no_request(server):
    """What sends it may have been killed."""
    address = server.address.removeprefix("http://").strip("/").split(":")
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        client.sendall(b"Content-Length: 9\r\n\r\nabc")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1000) == b""


def test_it_only_listens_to_this_machine(server):
    assert server.address.startswith("http://127.0.0.1:")
