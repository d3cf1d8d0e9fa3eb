"""Queries on the seed's four tables, each as one class over a session and a bot. Import them from their modules."""
