"""Sealing what the database keeps and nobody may read there: Fernet, under a key that HKDF makes from a secret.

A dump of the database opens nothing without the secret, which is in the environment only. Each sealing has a salt, and
so a key, of its own.
https://cryptography.io/en/latest/fernet/ and RFC 5869.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

SALT_BYTES = 16


class CannotOpen(ValueError):
    """It was sealed with another secret, for something else, or was changed."""


def seal(text: SecretStr, secret: SecretStr, purpose: str) -> tuple[bytes, str]:
    """The salt and the sealed text. What was sealed for one purpose does not open for another."""
    salt = os.urandom(SALT_BYTES)
    return salt, _cipher(secret, salt, purpose).encrypt(text.get_secret_value().encode()).decode()


def unseal(salt: bytes, sealed: str, secret: SecretStr, purpose: str) -> SecretStr:
    """The text.

    Raises:
        CannotOpen: not with this secret, or not for this purpose.
    """
    try:
        return SecretStr(_cipher(secret, salt, purpose).decrypt(sealed).decode())
    except InvalidToken:
        raise CannotOpen("it does not open with this secret") from None


def _cipher(secret: SecretStr, salt: bytes, purpose: str) -> Fernet:
    key = HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose.encode())
    return Fernet(urlsafe_b64encode(key.derive(secret.get_secret_value().encode())))
