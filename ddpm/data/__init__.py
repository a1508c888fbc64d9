"""From raw files to arrays of one size, split into train and test."""
