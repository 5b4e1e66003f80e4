"""TLS towards model servers: verification and host names always on."""

import ssl

from proxy.upstreams.base import TLS


def context(tls: TLS, *, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """Return a client context. Raises OSError (ssl.SSLError among them) when a file cannot be read or used."""
    made = ssl.create_default_context(cafile=tls.ca)
    made.set_alpn_protocols(list(alpn))
    if tls.certificate:
        made.load_cert_chain(tls.certificate, tls.key)
    return made


def reason(error: OSError) -> str:
    """Say in a few words why a connection could not be made. Names no address: callers see it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(getattr(error, 'reason', None) or 'handshake broken off').lower().replace('_', ' ')}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionError):
        return "connection reset"
    return (error.strerror or type(error).__name__).lower()
