"""What is timed, and never asserted: ``make bench``."""
