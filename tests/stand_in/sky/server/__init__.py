"""The stand-in's server, `python -m sky.server`, and who it is."""
