"""A top for TCP: which connections are bad, whose they are, and why.

Imports nothing, so that ``cli`` can start the loader process before numpy is imported.
"""
