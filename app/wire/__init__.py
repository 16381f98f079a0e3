"""Dialects: reading and writing what goes over the wire, bytes in and bytes out."""
