"""For who writes the course: compute the stored outputs anew."""
