"""The embedded model: fetched, built, served. See the modules for each step."""
