"""An X of our own: X API v2 over HTTP on loopback, with a community in it whose taste is known.

Nothing in the bot imports this package, and of the bot it imports only `app.clock` and `app.text`.
"""
