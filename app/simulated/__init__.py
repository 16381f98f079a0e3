"""The scripted upstream: a real OpenAI-speaking server whose answers are made up and say so.

It ships with the product, so that the demo, the tests and the benchmarks share one upstream that
can be told how to behave. It knows nothing of the gateway in front of it.
"""
