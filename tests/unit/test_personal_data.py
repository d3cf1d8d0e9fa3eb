"""What belongs to one person is told from the numbers of daily life."""

from __future__ import annotations

import pytest

from app.personal_data import has_personal_data


@pytest.mark.parametrize(
    "text",
    [
        "write to ada.l@council.example.org",
        "call +49 30 901820 or 0049 30 901820",
        "my number: (020) 7946 0958",
        "pay to DE89 3704 0044 0532 0130 00",
        "card 4111 1111 1111 1111, please",
        "it was 078-05-1120 once",
        "the log says 8.8.8.8",
        "12 Old Mill Road, Springfield 62704",
        "Bob Miller of 12 Elm Street is a thief",
        "sie wohnt Lange Straße 7, gleich links",
        "Hauptstr. 12 oder Birkenweg 3",
        "a repeat of 0171,234, and no more of it",
        "0171 2345678 or 01712345678",
    ],
)
def test_what_belongs_to_one_person_is_found(text: str) -> None:
    assert has_personal_data(text)


@pytest.mark.parametrize(
    "text",
    [
        "We met on 2026-01-05 08:30 at gate 12.",
        "Counted 41 swifts, 1200 euros, 3.5 % and 10 000 people of 8 000 000 000.",
        "Version 1.2.3 of it, and 127.0.0.1 is home",
        "Ratio 1:2:3, score 21-17, 19-21, 21-15",
        "Follow @ada_l and @tom_w, they know",
        "ISBN 978 is fine, order 12345",
        "from 1998 to 2005 and 10/11/2024",
        "at 08:30, on 05/2024, 0.1234567 of 1,234,567, track 007 and the 0930 train",
        "12 Streets were closed, and Road 66 was not",
        "Auf dem Weg 3 Rehe gesehen, die Straße war leer",
    ],
)
def test_numbers_of_daily_life_are_no_personal_data(text: str) -> None:
    assert not has_personal_data(text)
