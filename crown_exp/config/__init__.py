"""Configuration: the schema, composition, checking, and what the environment says."""
