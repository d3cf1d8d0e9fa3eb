"""A service that watches the others from outside: metrics for Prometheus, alarms for a person."""
