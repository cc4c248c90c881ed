"""The state of a run: copied in one go, committed behind the loop, verified to the last byte."""
