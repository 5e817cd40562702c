"""The management API: Open vStorage's REST contract, to the letter, and the extensions beside it.

One module for each resource. What is peculiar to the contract (how versions are negotiated, where a parameter is looked
for, what a list looks like, which status an error has) lives in this room and nowhere else.
"""
