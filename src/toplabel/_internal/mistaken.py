"""What people have where they think that a file is: known by its first bytes, in words."""

import re

_PAGE = re.compile(
    rb"\s*+(?><!--.*?-->\s*|<\?xml.*?\?>\s*)*+"
    rb"<(?:!doctype\s+html|html|head|body|title|script|meta)(?=[\s>/])",
    re.IGNORECASE | re.DOTALL,
)
_INSTEAD = "probably saved instead of the file; open its link in a browser to see why"


def mistaken_for(start: bytes) -> str | None:
    """What a file that begins so is instead of any model or image, and what to do; None: neither.

    Args:
        start: At least 256 bytes of it, where it is longer.
    """
    start = start.removeprefix(b"\xef\xbb\xbf")
    if not start.strip():
        return "an empty file; copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; run `git lfs pull` in its repository to get the file"
    if _PAGE.match(start):
        return f"a web page, {_INSTEAD}"
    if start.startswith(b"<?xml") and b"<svg" not in start.lower():
        return f"an XML document, {_INSTEAD}"
    return None
