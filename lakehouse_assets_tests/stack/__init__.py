"""The stack's services as plain processes on loopback, for tests and for `make rehearsal`."""
