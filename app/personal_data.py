"""What belongs to one person and is neither said nor learnt: addresses of any kind, numbers to call or to pay with."""

from __future__ import annotations

import re
from ipaddress import ip_address

from app.text import URL

EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
PHONE = re.compile(r"(?<![\w+./-])(?:\+|00)?\(?\d{1,4}\)?(?:[ ./()-]{1,2}\d{2,8}){2,5}(?![\w-])")
INTERNATIONAL = re.compile(r"(?<![\w+])\+\d{8,15}(?!\w)")
# No count begins with a zero: even half of such a number is somebody's. SmolLM2 repeated "0171,234" of one.
TRUNK = re.compile(r"(?<![\w.,+:-])(?<!\d )0\d{2,4}[ ,./-]?\d{3,8}(?![\w:])")
CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
SOCIAL_SECURITY = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
NETWORK = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
# A house, whether or not a town follows: SmolLM2 repeated one with a crime beside it, because it was asked to.
STREET = re.compile(
    r"\b\d{1,5}[a-z]? (?:[A-Z][a-z]+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court)\b"
    r"|\b[A-ZÄÖÜ][\w-]+(?: S|s)tr(?:aße|asse|\.) ?\d{1,4}\b"
    r"|\b[A-ZÄÖÜ][a-zäöüß-]{2,}(?:weg|gasse|allee) \d{1,4}\b"
)
DATE = re.compile(r"(?:19|20)\d\d[ ./-]\d{1,2}[ ./-]\d{1,2}|\d{1,2}[ ./-]\d{1,2}[ ./-](?:19|20)\d\d")
SUSPECT = re.compile(r"[\d@]")  # no form above does without one of these
THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:[ .]\d{3})+")
DIGITS_OF_PHONE = range(9, 16)


def has_personal_data(text: str) -> bool:
    """Whether a text holds what belongs to one person: an address of any kind, a number to call or to pay with.

    Numbers are checked by their check digits where they have them; handles and names are public and do not count.
    """
    if not SUSPECT.search(text):
        return False
    plain = URL.sub(" ", text)
    return (
        bool(EMAIL.search(plain) or SOCIAL_SECURITY.search(plain) or STREET.search(plain))
        or any(_is_phone(found.group()) for found in PHONE.finditer(plain))
        or bool(INTERNATIONAL.search(plain) or TRUNK.search(plain))
        or any(_is_card(found.group()) for found in CARD.finditer(plain))
        or any(_is_iban(found.group()) for found in IBAN.finditer(plain))
        or any(_is_address(found.group()) for found in NETWORK.finditer(plain))
    )


def _is_phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    is_other = DATE.match(text.strip()) or THOUSANDS.fullmatch(text.strip())
    return len(digits) in DIGITS_OF_PHONE and not is_other


def _is_card(text: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1)."""
    digits = [int(char) for char in text if char.isdigit()][::-1]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0 and any(digits)


def _is_iban(text: str) -> bool:
    """ISO 13616: the number modulo 97 is 1."""
    plain = text.replace(" ", "")
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _is_address(text: str) -> bool:
    try:
        return ip_address(text).is_global
    except ValueError:
        return False
