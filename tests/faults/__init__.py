"""What happens to a run when processes, disks and servers fail."""
