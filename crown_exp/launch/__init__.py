"""From a checked config to a run that is recorded and started; the runner is started by who ties the two."""
