"""URLs, and what a request says of its target."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from quicio.http.target import Target, authority_of, parse_url, path_of


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("example.com", 443, "example.com", "/")),
        ("HTTPS://Example.COM:8443/a?b#c", Target("example.com", 8443, "example.com:8443", "/a?b")),
        ("https://example.com:443/%20 é", Target("example.com", 443, "example.com", "/%20%20%C3%A9")),
        ("https://[::1]:4433/", Target("::1", 4433, "[::1]:4433", "/")),
        ("https://example.com?q=1", Target("example.com", 443, "example.com", "/?q=1")),
    ],
)
def test_urls(url: str, target: Target) -> None:
    assert parse_url(url) == target


@pytest.mark.parametrize("url", ["http://example.com/", "example.com", "https://", "https:///x", "https://a:b/"])
def test_what_is_no_https_url_raises(url: str) -> None:
    with pytest.raises(ValueError):
        parse_url(url)


@pytest.mark.parametrize("user", ["user", "user:secret", ":secret"])
def test_user_information_is_not_sent(user: str) -> None:
    with pytest.raises(ValueError, match="authorization"):
        parse_url(f"https://{user}@example.com/")


def test_authorities() -> None:
    assert authority_of("example.com", 443) == "example.com"
    assert authority_of("example.com", 80) == "example.com:80"
    assert authority_of(IPv6Address("::1"), 443) == "[::1]"
    assert authority_of("fe80::1%eth0", 4433) == "[fe80::1]:4433"


def test_paths_and_urls_of_one_authority() -> None:
    assert path_of("/a b?c#d", "example.com") == "/a%20b?c"
    assert path_of("*", "example.com") == "*"
    assert path_of("https://EXAMPLE.com/x", "example.com") == "/x"
    with pytest.raises(ValueError, match="another client"):
        path_of("https://example.org/x", "example.com")
    with pytest.raises(ValueError, match="another client"):
        path_of("https://example.com:8443/x", "example.com")
