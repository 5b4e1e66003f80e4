"""Act: what a route does with a request, as generators of effects. Pure."""
