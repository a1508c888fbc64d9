"""Features of real images and samples, and the distances between them."""
