"""Everything a decision may look at. Read lazily: a policy of header rules never measures the prompt."""
