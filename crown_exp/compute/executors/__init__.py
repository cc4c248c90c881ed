"""One module for each way to start a run that is already recorded."""
