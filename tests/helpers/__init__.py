"""What several test modules share; pytest and subprocesses find it by tests/ on the path."""
