"""Whoever renders a miss. `local` does it in this process."""
