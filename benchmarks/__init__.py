"""Speed, measured: a fast upstream, a load generator, and a runner that puts gateways between them.

Nothing here is imported by the gateway, and no rival's package is a dependency of the project.
"""
