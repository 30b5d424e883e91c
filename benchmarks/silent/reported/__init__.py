"""Reported kinds: what people met elsewhere, each with its reports, made small and run here."""
