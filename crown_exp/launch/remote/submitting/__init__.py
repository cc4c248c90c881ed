"""Jobs asked for, so that none is without a record and no run has two."""
