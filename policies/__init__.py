"""Decide: facts in, a decision and its trace out. Pure."""
