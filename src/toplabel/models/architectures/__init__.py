"""Architectures: names and shapes of a state dict in; the torchvision and timm models they fit out.

Nothing here imports torch but `building` and `choosing`, which load weights into what was found.
"""

from toplabel.models.architectures.identifying import Candidate, identify, matching_state

__all__ = ["Candidate", "identify", "matching_state"]
