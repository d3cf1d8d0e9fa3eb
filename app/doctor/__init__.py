"""`explorer doctor`: whether what the bot needs is there and works, and if not, which setting to change and how.

A room per kind of check. Each check names those that it needs, and is skipped where one of them did not pass: what is
shown at fault is where the trouble begins.
"""
