"""Pointsman: a gateway that sends each request to the cheapest model capable of it."""

__version__ = "0.1.0"
