"""Where sources are had from, and what of them is kept."""
