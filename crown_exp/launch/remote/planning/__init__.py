"""What a launch would do and cost, worked out and shown before anything is done."""
