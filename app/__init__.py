"""Pointsman: a gateway that sends each request to the cheapest model capable of it."""

import os

__version__ = "0.1.0"

# onnxruntime reports its use to its maker unless told not to before it is imported. A gateway that
# carries people's prompts calls nobody but the upstreams it was given.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
