"""What the environment says of the way to the Hub is used, or told by the variable's name, before anything is asked."""

import os
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest

from seesr_cli.errors import WeightsError
from seesr_cli.weights import connection, lock, pull
from seesr_cli.weights.connection import CERTIFICATES, PROXIES

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBfDCCASGgAwIBAgIUBlwa4LoxsL0H/oN2WSopkIJ9PcYwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHYSBwcm94eTAgFw0yNjExMjYxNTU2MDNaGA8yMTI2MTEwMjE1
NTYwM1owEjEQMA4GA1UEAwwHYSBwcm94eTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABA3HaXNYwdPjO83gK84tfeNXhBCECYZYVnG+prD0izwlhgrBL0CJfxG6T4/7
U/NKVNGsbsunpeZPvWdK52IpT1SjUzBRMB0GA1UdDgQWBBQqrF/EAN7oUpCNpxa/
YuJwGc68tTAfBgNVHSMEGDAWgBQqrF/EAN7oUpCNpxa/YuJwGc68tTAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCM9sqygK6UBqvbIw0gkdKdlnGR
Ont4qcrN1pE334S/bwIhAMcPwf4MJ3Xfq3yiGkWKpeTJSEmMTYoqGiixYUSDFegE
-----END CERTIFICATE-----
"""
"""Made for this test, and its key was thrown away."""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder and an environment without any of the variables."""
    monkeypatch.chdir(tmp_path)
    for name in (*PROXIES, *map(str.upper, PROXIES), "no_proxy", "NO_PROXY", *CERTIFICATES, "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.setenv(name, "")  # what `check` sets is gone after the test, too
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", [*PROXIES, *map(str.upper, PROXIES)])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://cache:21", "ftp://cache:21, which is of a kind that is not used here: give one that begins with http"),
        ("socks4://me:secret@cache:9", "socks4://cache:9, which is of a kind"),
        ("http://me:secret@cache:port", "http://cache:port, which is no address: write it as http://host:port"),
        ("http://[::1", r"http://\[::1, which is no address"),
        ("http://", "http://, which is no address"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_and_no_password_is(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, told: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(WeightsError, match=f"^{name} names the proxy {told}.* unset {name}") as caught:
        connection.check()
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 3
    with pytest.raises((ValueError, httpx2.HTTPError, httpx2.InvalidURL)):
        httpx2.Client().get("http://localhost:9")  # the second source: it would have been an error in the middle


@pytest.mark.parametrize("scheme", ["socks5", "SOCKS5H"])
def test_socks_says_what_to_install(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://cache:1080")
    if find_spec("socksio") is None:
        with pytest.raises(WeightsError, match=r"pip install 'httpx2\[socks\]'\. Or unset ALL_PROXY"):
            connection.check()
    else:
        connection.check()
    monkeypatch.setenv("NO_PROXY", "localhost, *")
    connection.check()  # for no place a proxy


@pytest.mark.parametrize("url", ["cache:3128", "http://me:secret@cache:3128/", "https://[::1]:8080"])
def test_a_proxy_that_can_be_used_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    connection.check()
    httpx2.Client().close()
    assert "secret" not in connection.without_password(url)


@pytest.mark.parametrize("name", CERTIFICATES)
@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nowhere", "and there is no such (file|folder)"),
        ("folder", "cannot be read|no certificate there has a name"),
        ("words", "which holds no certificate in PEM|and there is no such folder"),
    ],
)
def test_certificates_that_are_none_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, place: str, told: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "words").write_text("Dear diary")
    monkeypatch.setenv(name, str(tmp_path / place))
    with pytest.raises(WeightsError, match=f"^{name} names {tmp_path / place}.*({told})"):
        connection.check()


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates_are_taken_from_whichever_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0a1b2c3d.0").write_text(CERTIFICATE)
    (tmp_path / "one.pem").write_text(CERTIFICATE)
    place = tmp_path / ("folder" if name == "SSL_CERT_DIR" else "one.pem")
    monkeypatch.setenv(name, str(place))
    connection.check()
    assert os.environ["SSL_CERT_DIR" if name == "SSL_CERT_DIR" else "SSL_CERT_FILE"] == str(place)


@pytest.mark.parametrize(("name", "value"), [("HF_ENDPOINT", "ftp://hub"), ("HF_ENDPOINT", "hub"), ("HF_TOKEN", "tök")])
def test_a_hub_that_is_no_address_and_a_token_that_is_none_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WeightsError, match=f"^{name} "):
        connection.check()


def test_a_pull_says_so_before_it_asks_anybody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("seesr_cli.weights.hub.offline", lambda: False)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    wanted = pull.plan(lock.read(), "seesr", tmp_path / "shelf")
    with pytest.raises(WeightsError, match=r"^SSL_CERT_FILE names /nowhere/certificates\.pem") as caught:
        pull.fetch_all(wanted)
    assert "make room" not in str(caught.value)
