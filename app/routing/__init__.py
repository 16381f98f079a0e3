"""The heart: from what a request needs and how hard it is to the model that should serve it. Pure,
no I/O.
"""
