"""For who writes the course: compute the stored outputs anew, make the samples of the data."""
