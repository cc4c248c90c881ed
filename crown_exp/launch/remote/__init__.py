"""Runs that are carried out elsewhere: planned and priced, submitted, watched, collected."""
