"""The pocket model's server: the OpenAI protocol on loopback."""
