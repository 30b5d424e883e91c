"""Readers: what a user names as the inputs of a run in, entries out; and from an entry its bytes.

Nothing is held but one folder's names, or a window of one archive. Open `inputs`.
"""
