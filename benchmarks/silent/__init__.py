"""The silent-error scoreboard: ways to get a confident wrong label, and who tells of them."""
