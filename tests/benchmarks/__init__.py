"""What ``make bench`` times. No time is asserted."""
