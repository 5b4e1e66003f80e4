"""Serve: the only code that waits. HTTP in, upstreams out, config, metrics, command line."""

__version__ = "0.1.0"
