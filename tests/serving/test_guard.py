"""Who may talk to a server."""

import pytest

from tests.serving.fake import Server, png


@pytest.fixture(scope="module")
def server():
    return Server()


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:9", "[::1]:8000"])
def test_loopback_names_of_any_port_are_answered(server, host):
    assert server.ask("GET", "/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "192.168.0.7:8000", "[", "", "a@localhost:b@c"],
)
@pytest.mark.parametrize("address", ["/", "/model", "/predict"])
def test_other_names_are_refused(server, host, address):
    answer = server.ask("GET", address, headers={"Host": host})
    assert answer.status_code == 403
    assert "does not answer to the name" in answer.json()["error"]


def test_of_all_addresses_any_may_be_named_but_no_name():
    server = Server(host="0.0.0.0")
    for host, status in (("192.168.0.7:8000", 200), ("[fe80::1]", 200), ("evil.example", 403)):
        assert server.ask("GET", "/health", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("https://127.0.0.1:8000", 200),
        ("http://127.0.0.1:3000", 403),
        ("http://localhost:8000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_pages_of_other_sites_may_not_post(server, origin, status):
    assert server.post(png(), Origin=origin).status_code == status


def test_an_allowed_site_may_post_and_read_the_answer():
    site = "https://tool.example"
    server = Server(origins=[site])
    answer = server.post(png(), Origin=site)
    assert answer.headers["access-control-allow-origin"] == site
    assert server.post(png(), Origin="https://other.example").status_code == 403
    asks_first = {"Origin": site, "Access-Control-Request-Method": "POST",
                  "Access-Control-Request-Headers": "content-type"}  # fmt: skip
    assert server.ask("OPTIONS", "/predict", headers=asks_first).status_code == 200
    assert server.ask("GET", "/health", headers={"Host": "tool.example"}).status_code == 200


@pytest.mark.parametrize(("method", "address"), [("GET", "/"), ("POST", "/"), ("GET", "/none")])
def test_every_answer_has_the_security_headers(server, method, address):
    headers = server.ask(method, address).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
