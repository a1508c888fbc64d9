"""What only a GPU can show: checks, and a benchmark against other libraries."""
