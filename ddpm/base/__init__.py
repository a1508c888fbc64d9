"""What every room stands on: errors, files, paths, progress, settings and variants. No torch in here."""
