"""The test kit: a hub on this machine, and checkpoints to put on it."""
