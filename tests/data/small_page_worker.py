"""An I/O worker that reads small pages, few at once, so that a small community has many turns: `--name NAME`."""

from __future__ import annotations

from app.data import fanout, x_source
from workers import io

PAGE, PAGES_AT_ONCE = 5, 6

if __name__ == "__main__":
    x_source.PAGE = PAGE
    fanout.PAGES_AT_ONCE = PAGES_AT_ONCE
    io.main()
