"""Small helpers that know nothing of the paper: errors meant for the user, and files that are whole or absent."""
