"""What presets are said to be: compared with the libraries that they are named for, to the bit."""

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from benchmarks.preset_parity import LIBRARIES, parity  # noqa: E402

from toplabel.models.transforms.verify import drawn_photos  # noqa: E402
from toplabel.preprocess.presets import PRESETS  # noqa: E402

PHOTOS = list(drawn_photos([(75, 100), (300, 231)]))
DIFFERENT = {
    ("torchvision", "raw-1-224"),  # resized as a tensor
    ("Keras", "half-squash-224"),  # which takes the nearest pixel
}
NEVER = ("albumentations", "fastai")  # no preset is said to be theirs


@pytest.mark.parametrize("library", [name for name in LIBRARIES if name not in NEVER])
def test_a_preset_equals_the_library_that_it_is_named_for(library: str) -> None:
    try:
        cases = list(LIBRARIES[library]())
    except ImportError as error:
        pytest.skip(str(error))
    for name, what, transform in cases:
        found = parity(name, transform, PHOTOS)
        assert (found.largest == 0) == ((library, name) not in DIFFERENT), (name, what, str(found))


def test_no_preset_is_said_to_be_a_librarys_that_resizes_otherwise() -> None:
    assert not [n for n, text in PRESETS.items() if any(lib in text.lower() for lib in NEVER)]
