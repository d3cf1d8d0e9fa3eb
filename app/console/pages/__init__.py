"""A file per page: its queries, its view, its actions."""
