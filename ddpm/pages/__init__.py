"""The HTML report, and pictures of the variants."""
