"""Diagnose: what is wrong with a checkpoint, and how its images were preprocessed."""
