"""A prompt version: checked and compiled at load, rendered per request, its static parts encoded once."""
