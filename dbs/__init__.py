"""The database: models, sessions, and the documents generated from them. Nothing in here knows the app."""
