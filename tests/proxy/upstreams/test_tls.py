"""Contexts that always verify, and reasons that a caller may read."""

import errno
import socket
import ssl

import pytest

from proxy.upstreams import tls
from proxy.upstreams.base import TLS
from tests.proxy.upstreams.conftest import Certificates


def test_verification_is_always_on(certificates: Certificates) -> None:
    for wanted in (TLS(), certificates.trusted):
        context = tls.context(wanted)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def test_our_own_ca_stands_alone(certificates: Certificates) -> None:
    """Who names a CA trusts that one, not the system's beside it."""
    assert len(tls.context(certificates.trusted).get_ca_certs()) == 1


@pytest.mark.parametrize("wanted", [TLS(ca="/nowhere.pem"), TLS(certificate="/nowhere.pem")])
def test_files_that_cannot_be_read_are_found_at_once(wanted: TLS) -> None:
    with pytest.raises(OSError, match="No such file"):
        tls.context(wanted)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 80)"), "connection refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "connection reset"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host"),
        (OSError(), "oserror"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"), "TLS failed: handshake"),
    ],
)
def test_reasons(error: OSError, text: str) -> None:
    assert tls.reason(error).startswith(text)
    assert "10.0.0.1" not in tls.reason(error)
