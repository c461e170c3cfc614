"""The way to the Hub as the environment describes it, checked before anything is asked of the network.

A library that meets what it cannot use there raises whatever it likes, in the middle of a download. Here the variable
is named, and what to do.
"""

import os
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ..errors import WeightsError

PROXIES = ("https_proxy", "http_proxy", "all_proxy")
"""Variables of proxies that httpx2 reads, in small letters and in capitals."""

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables of certificates, the first that is set wins. httpx2 reads two; people who have used requests set others."""

_SOCKS = ("socks5", "socks5h")
_ELSEWHERE = "or fetch the weights on another machine (seesr weights pull --to DIR)"


class Variable(NamedTuple):
    """A variable of the environment that is set."""

    name: str
    value: str


def check() -> None:
    """Raise WeightsError if the environment names proxies, certificates or a Hub that cannot be used.

    Certificates that stand in a variable of requests' are taken, too.
    """
    _check_certificates()
    for proxy in proxies():
        _check_proxy(proxy)
    if endpoint := os.environ.get("HF_ENDPOINT"):
        _check_endpoint(endpoint)
    if not os.environ.get("HF_TOKEN", "").isascii():
        raise WeightsError("HF_TOKEN holds characters that no token has: copy it anew, or unset it.")


def proxies() -> tuple[Variable, ...]:
    """Return the proxies that the environment names, each under the name that it has there."""
    if "*" in os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).replace(" ", "").split(","):
        return ()
    named = [next((name for name in (small, small.upper()) if os.environ.get(name)), None) for small in PROXIES]
    return tuple(Variable(name, os.environ[name]) for name in named if name)


def without_password(url: str) -> str:
    """Return the address of a proxy without the name and the password of a person."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def certificates() -> Variable | None:
    """Return the variable that says which certificates count, or None where the system's do."""
    return next((Variable(name, os.environ[name]) for name in CERTIFICATES if os.environ.get(name)), None)


def _check_proxy(proxy: Variable) -> None:
    import httpx2

    url = proxy.value if "://" in proxy.value else f"http://{proxy.value}"
    said = f"{proxy.name} names the proxy {without_password(proxy.value)}"
    scheme = url.partition("://")[0].lower()
    if scheme in _SOCKS and find_spec("socksio") is None:
        raise WeightsError(
            f"{said}, and SOCKS needs one more library: pip install 'httpx2[socks]'. Or unset {proxy.name}, "
            f"{_ELSEWHERE}."
        )
    try:
        httpx2.Proxy(url)
        host = httpx2.URL(url).host
    except (ValueError, httpx2.InvalidURL):
        host = ""
    if scheme not in (*_SOCKS, "http", "https"):
        raise WeightsError(
            f"{said}, which is of a kind that is not used here: give one that begins with http://, https:// or "
            f"socks5://, unset {proxy.name}, {_ELSEWHERE}."
        )
    if not host:
        raise WeightsError(
            f"{said}, which is no address: write it as http://host:port, unset {proxy.name}, {_ELSEWHERE}."
        )


def _check_certificates() -> None:
    named = certificates()
    if named is None:
        return
    said = f"{named.name} names {named.value}"
    advice = f"name a file of certificates in PEM, or unset {named.name}"
    if named.name == "SSL_CERT_DIR" or (named.name != "SSL_CERT_FILE" and Path(named.value).is_dir()):
        folders = [Path(folder) for folder in named.value.split(os.pathsep) if folder]
        if not any(folder.is_dir() for folder in folders):
            raise WeightsError(f"{said}, and there is no such folder: name a folder of certificates, or unset it.")
        if not any(path.suffix[1:].isdecimal() for folder in folders if folder.is_dir() for path in folder.iterdir()):
            raise WeightsError(
                f"{said}, and no certificate there has a name that is looked for: run openssl rehash on it, "
                f"or {advice}."
            )
        os.environ["SSL_CERT_DIR"] = named.value
        return
    try:
        ssl.create_default_context(cafile=named.value)
    except FileNotFoundError:
        raise WeightsError(f"{said}, and there is no such file: {advice}.") from None
    except ssl.SSLError:
        raise WeightsError(f"{said}, which holds no certificate in PEM: {advice}.") from None
    except OSError as problem:
        raise WeightsError(f"{said}, which cannot be read ({problem.strerror}): {advice}.") from None
    os.environ["SSL_CERT_FILE"] = named.value


def _check_endpoint(endpoint: str) -> None:
    import httpx2

    try:
        usable = httpx2.URL(endpoint).scheme in ("http", "https") and bool(httpx2.URL(endpoint).host)
    except httpx2.InvalidURL:
        usable = False
    if not usable:
        raise WeightsError(f"HF_ENDPOINT is {endpoint}, which is no address: write https://host, or unset it.")
