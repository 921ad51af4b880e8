"""The certificate authorities that Python trusts, as Java reads them."""

import hashlib
import ssl
import struct
from pathlib import Path


def python_authorities() -> list[bytes]:
    """The certificates (DER) of the authorities that this Python trusts."""
    context = ssl.create_default_context()
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not context.get_ca_certs() and bundle.exists():
        context.load_verify_locations(bundle)
    return context.get_ca_certs(binary_form=True)


def java_trust_store(authorities: list[bytes]) -> bytes:
    """A Java key store (format JKS 2) that trusts these certificates.

    Written here because `keytool` takes a third of a second for each of some 150 certificates. The digest at the end
    is the format's own, against damage and not for secrecy; the password is Java's default.
    """

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    entries = b"".join(
        struct.pack(">I", 2) + text(f"authority{n}") + bytes(8) + text("X.509") + struct.pack(">I", len(der)) + der
        for n, der in enumerate(authorities)
    )
    store = struct.pack(">III", 0xFEEDFEED, 2, len(authorities)) + entries
    digest = hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + store, usedforsecurity=False)
    return store + digest.digest()
