"""Where runs happen: targets, the snapshot of their code, and the executors that start them."""
