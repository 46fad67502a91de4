"""Keys: which kinds there are, which are strong enough, and a wrapper that shows none of them.

Keeping them is for `sds/sealing.py` and what uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mesh.certificates import PrivateKey
from mesh.spiffe import SpiffeId

KeyType = Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
KEY_TYPES: Final[tuple[str, ...]] = get_args(KeyType)
MIN_RSA_BITS: Final = 2_048
MAX_RSA_BITS: Final = 8_192
_CURVES: Final = frozenset({"secp256r1", "secp384r1"})


class UnusableKey(ValueError):  # noqa: N818 - errors are named by what is true
    """A key that cannot be read, or that is not of a kind we use; the text never quotes it."""


class SigningKey:
    """A private key in memory, to sign with. It does not show itself."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        check_public_key(key.public_key())
        self._key = key

    @property
    def key(self) -> Any:
        """The key itself."""
        return self._key

    @property
    def public_key(self) -> Any:
        """Its public half."""
        return self._key.public_key()

    @property
    def digest(self) -> hashes.SHA256 | hashes.SHA384:
        """The digest that fits its strength."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey) and self._key.key_size > 256:
            return hashes.SHA384()
        return hashes.SHA256()

    def pem(self) -> PrivateKey:
        """PKCS #8, unencrypted."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return PrivateKey(self._key.private_bytes(encoding, form, serialization.NoEncryption()))

    def sealed_pem(self, passphrase: bytes) -> bytes:
        """PKCS #8, encrypted with a passphrase, as `openssl pkey` reads it."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self._key.private_bytes(encoding, form, serialization.BestAvailableEncryption(passphrase))

    def __repr__(self) -> str:
        return "[redacted]"


def request_for(key: SigningKey, identity: SpiffeId | None, names: Sequence[x509.GeneralName] = ()) -> bytes:
    """A certificate request (PKCS #10, DER) that asks for an identity and nothing else; None: for whatever is given.

    `names` are a server's, beside its identity.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if identity is not None:
        asked = [x509.UniformResourceIdentifier(str(identity)), *names]
        builder = builder.add_extension(x509.SubjectAlternativeName(asked), critical=True)
    return builder.sign(key.key, key.digest).public_bytes(serialization.Encoding.DER)


def new_key(kind: KeyType = "ecdsa-p256") -> SigningKey:
    """A new key."""
    match kind:
        case "ecdsa-p256":
            return SigningKey(ec.generate_private_key(ec.SECP256R1()))
        case "ecdsa-p384":
            return SigningKey(ec.generate_private_key(ec.SECP384R1()))
        case _:
            return SigningKey(rsa.generate_private_key(65_537, int(kind.removeprefix("rsa-"))))


def read_key(pem: bytes, passphrase: bytes | None = None) -> SigningKey:
    """A key from PEM.

    Raises:
        UnusableKey: it is none, the passphrase is another one, or it is too weak.
    """
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Neither the text of the error nor its context: it may quote the input.
        raise UnusableKey("it is no PEM key, or its passphrase is another one") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise UnusableKey("it is neither an elliptic curve's key nor an RSA key")
    return SigningKey(key)


def check_public_key(key: Any) -> None:
    """Refuse what is too weak, or what Envoys do not take.

    Raises:
        UnusableKey: it is none of ECDSA P-256, P-384, RSA of 2,048 to 8,192 bits.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise UnusableKey(f"its curve is {key.curve.name}; P-256 and P-384 are taken")
    elif isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise UnusableKey(f"it is an RSA key of {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken")
        if key.public_numbers().e < 65_537:
            raise UnusableKey("it is an RSA key with a small exponent")
    else:
        raise UnusableKey("it is neither an elliptic curve's key nor an RSA key")
