"""The server on this machine: what it gives, and what it refuses."""

import http.client
import socket
import time

import pytest

from penjing.web import local_server
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


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:80@evil.com", "127.0.0.1:", "127.0.0.1:1", "127.0.0.1.evil.com"),
        *("evil.com:{port}", "localhost:{port}:1", "[::1]:{port}", "", "127.0.0.1 x"),
    ],
)
def test_only_its_own_names_are_hosts(server, host):
    port = server.address.rpartition(":")[2].strip("/")
    headers = {"Host": host.format(port=port)}
    assert ask(server, "GET", "/page.html", headers=headers)[0] == 403


def opened(server, text):
    port = int(server.address.split(":")[2].partition("/")[0])
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(text.replace("\n", "\r\n").encode())
    return client


def test_two_hosts_are_none(server):
    port = server.address.rpartition(":")[2].strip("/")
    hosts = f"Host: 127.0.0.1:{port}\nHost: evil.com\n\n"
    with opened(server, f"GET /page.html HTTP/1.1\n{hosts}") as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 403")


@pytest.fixture
def secretive():
    seen = []

    def respond(request):
        seen.append(request)
        return Response(200, request.path.encode())

    with LocalServer(respond, secret="s3cret") as running:
        running.seen = seen
        yield running


def test_the_secret_comes_first_and_is_taken_off(secretive):
    assert secretive.address.endswith("/s3cret/")
    port = int(secretive.address.split(":")[2].partition("/")[0])
    for path, expected in [
        *(("s3cret/a/b", (200, b"a/b")), ("s3cret/", (200, b"")), ("a", 404)),
        *(("", 404), ("s3cre/a", 404), ("S3cret/a", 404), ("caf%C3%A9/a", 404)),
    ]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert expected in (answer.status, (answer.status, content)), path
    assert len(secretive.seen) == 2


@pytest.mark.parametrize(
    "head",
    [
        "POST /s3cret/answer HTTP/1.1\nHost: evil.com\n",
        "POST /guess/answer HTTP/1.1\nHost: 127.0.0.1\n",
        "POST /s3cret/answer HTTP/1.1\nHost: evil.com\nExpect: 100-continue\n",
    ],
)
def test_bodies_of_strangers_are_not_read(secretive, head):
    """The answer comes before any of the body was sent, and the connection ends."""
    with opened(secretive, f"{head}Content-Length: {2**29}\n\n") as client:
        answer = b""
        while part := client.recv(1000):
            answer += part
    assert answer.split()[1] in (b"403", b"404")
    assert b"100 Continue" not in answer
    assert not secretive.seen


@pytest.mark.parametrize(
    "half",
    [
        *("", "POST /s3cret/", "POST /s3cret/a HTTP/1.1\nHost: 127.0.0.1\n"),
        "POST /s3cret/a HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 9\n\nabc",
    ],
)
def test_half_a_request_is_not_kept_for_ever(secretive, monkeypatch, half):
    """Not even where a byte comes now and then."""
    monkeypatch.setattr(local_server, "REQUEST_SECONDS", 0.4)
    begin = time.monotonic()
    with opened(secretive, half) as client:
        client.settimeout(0.1)
        while time.monotonic() - begin < 5:
            try:
                client.sendall(b"x")
                if client.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it waits and waits")
    assert not secretive.seen


def test_what_knows_the_secret_may_compute_before_it_answers(secretive, monkeypatch):
    """A worker takes an order, is busy, and answers through the same connection."""
    monkeypatch.setattr(local_server, "REQUEST_SECONDS", 0.2)
    port = int(secretive.address.split(":")[2].partition("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for method, path in (("GET", "order"), ("POST", "answer")):
        connection.request(method, f"/s3cret/{path}", b"" if method == "POST" else None)
        assert connection.getresponse().read() == path.encode()
        own = connection.sock
        time.sleep(0.4)
        own.setblocking(False)
        with pytest.raises(BlockingIOError):  # an end would be read as nothing
            own.recv(1)
        own.settimeout(10)
    connection.close()


def test_connections_are_counted(secretive):
    clients = [opened(secretive, "") for _ in range(local_server.MAX_CONNECTIONS)]
    with opened(secretive, "") as client:  # they are taken in the order they came in
        assert client.recv(10) == b"", "one too many"
    for client in clients:
        client.close()
    begin = time.monotonic()
    while time.monotonic() - begin < 10:
        with opened(secretive, "GET / HTTP/1.1\n\n") as client:
            if client.recv(1000):
                break
    else:
        pytest.fail("the places of those that left are not given back")


def test_what_nobody_reads_is_not_kept_either(server):
    for extra in ("Content-Length: 5\n\nabcde", "Transfer-Encoding: chunked\n\n"):
        head = "GET /page.html HTTP/1.1\nHost: 127.0.0.1\n"
        with opened(server, head + extra) as client:
            answer = b""
            while part := client.recv(1000):
                answer += part
        assert answer.endswith(b"<p>hello</p>") and answer.count(b"HTTP/1.1") == 1


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
