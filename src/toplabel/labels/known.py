"""The name of a well-known data set in, its class names in the order of its indices out.

Each list has the order in which torchvision's data set, or where it has none the data set's own
authors, number the classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from toplabel.labels.labels import Labels

_BUILT_IN = Path(__file__).parents[1] / "data" / "efficientnet_lite0" / "manifest.json"


_ALSO = {"imagenet1k": "imagenet", "ilsvrc2012": "imagenet", "fmnist": "fashion-mnist"}


def find_known(name: str) -> str | None:
    """The list that is meant by "cifar10", "CIFAR-10" or "cifar_10"; None: none is."""
    if not re.fullmatch(r"[\w-]+", name):
        return None
    plain = re.sub(r"[\W_]", "", name.lower())
    return _ALSO.get(plain) or next((one for one in KNOWN if one.replace("-", "") == plain), None)


def known_labels(name: str) -> Labels:
    """The class names of one of the `KNOWN` lists, in the order of its indices."""
    return KNOWN[name]()


def _imagenet() -> Labels:
    """ILSVRC 2012's 1000 classes, sorted by synset, as torchvision and timm number them."""
    labels = json.loads(_BUILT_IN.read_text(encoding="utf-8"))["labels"]
    return Labels(tuple(labels["names"]), ids=tuple(labels["ids"]))


def _imagenet_synsets() -> Labels:
    ids = _imagenet().ids
    return Labels(ids or (), ids=ids)


def _words(text: str) -> Labels:
    return Labels(tuple(text.split()))


def _phrases(text: str) -> Labels:
    return Labels(tuple(phrase.strip() for phrase in text.split(",")))


# cs.toronto.edu/~kriz/cifar.html: batches.meta, `label_names`.
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"

# The same page: meta, `fine_label_names`, which are sorted.
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

# yann.lecun.com/exdb/mnist; SVHN as torchvision numbers it: the digit 0 is class 0, not 10.
_DIGITS = "0 1 2 3 4 5 6 7 8 9"

# github.com/zalandoresearch/fashion-mnist, "Labels".
_FASHION_MNIST = (
    "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
)

# codh.rois.ac.jp/kmnist: kmnist_classmap.csv, as torchvision spells it.
_KMNIST = "o ki su tsu na ha ma ya re wo"

# cs.stanford.edu/~acoates/stl10: class_names.txt.
_STL10 = "airplane bird car cat deer dog horse monkey ship truck"

# benchmark.ini.rub.de, German traffic signs: ClassId 0 to 42.
_GTSRB = """
Speed limit (20km/h), Speed limit (30km/h), Speed limit (50km/h), Speed limit (60km/h),
Speed limit (70km/h), Speed limit (80km/h), End of speed limit (80km/h), Speed limit (100km/h),
Speed limit (120km/h), No passing, No passing for vehicles over 3.5 metric tons,
Right-of-way at the next intersection, Priority road, Yield, Stop, No vehicles,
Vehicles over 3.5 metric tons prohibited, No entry, General caution, Dangerous curve to the left,
Dangerous curve to the right, Double curve, Bumpy road, Slippery road,
Road narrows on the right, Road work, Traffic signals, Pedestrians, Children crossing,
Bicycles crossing, Beware of ice/snow, Wild animals crossing, End of all speed and passing limits,
Turn right ahead, Turn left ahead, Ahead only, Go straight or right, Go straight or left,
Keep right, Keep left, Roundabout mandatory, End of no passing,
End of no passing by vehicles over 3.5 metric tons
"""

KNOWN: dict[str, Callable[[], Labels]] = {
    "imagenet": _imagenet,
    "imagenet-synsets": _imagenet_synsets,
    "cifar10": lambda: _words(_CIFAR10),
    "cifar100": lambda: _words(_CIFAR100),
    "mnist": lambda: _words(_DIGITS),
    "fashion-mnist": lambda: _phrases(_FASHION_MNIST),
    "kmnist": lambda: _words(_KMNIST),
    "svhn": lambda: _words(_DIGITS),
    "stl10": lambda: _words(_STL10),
    "gtsrb": lambda: _phrases(_GTSRB),
}
"""The lists that can be asked for by name, and what gives each."""
