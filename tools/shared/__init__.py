"""What author and instructor share: notebooks as files and in kernels, their pairs, the pinned arithmetic."""
