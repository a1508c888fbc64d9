"""Everything that can be chosen: FAMILY/NAME.py, one variant a file. Nothing else is in here."""
