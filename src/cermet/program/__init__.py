"""The compiled artefact: the plan's file format, its cache key and the cache directory."""
