"""From raw files to arrays of images of one size, split into train and test."""
