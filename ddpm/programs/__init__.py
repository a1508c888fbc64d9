"""Runs of any program that prints a score: its command, what it prints, and the worktree that it runs in."""
