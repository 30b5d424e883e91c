"""A class of the user's, or a network, and a state dict in; the network with these weights out."""
