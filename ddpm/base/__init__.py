"""What every room builds on: errors, files, paths, progress, settings and variants. Nothing here imports torch."""
