"""The demo: two stand-in models, the proxy in front of them, a believable mixture of requests, and what it saved."""
