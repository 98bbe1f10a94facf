"""A simulator of OpenRouter on this machine."""
