"""What is proposed for a checkpoint that lacks something."""

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from toplabel.models.advice import presets_for  # noqa: E402
from toplabel.models.input_size import InputSize  # noqa: E402
from toplabel.models.inspect import script_beside  # noqa: E402
from toplabel.preprocess.presets import preset  # noqa: E402


def test_the_script_that_names_a_checkpoint_comes_before_others_with_a_network(tmp_path):
    checkpoint = tmp_path / "net.pth"
    checkpoint.touch()
    assert script_beside(checkpoint) is None
    (tmp_path / "a_helper.py").write_text("import os")
    assert script_beside(checkpoint) is None
    (tmp_path / "b_model.py").write_text("class Net(nn.Module): ...")
    assert script_beside(checkpoint) == str(tmp_path / "b_model.py")
    (tmp_path / "z_train.ipynb").write_text("class Net(nn.Module): torch.save(net, 'net.pth')")
    assert script_beside(checkpoint) == str(tmp_path / "z_train.ipynb")


def test_the_folder_of_a_checkpoint_may_be_gone(tmp_path):
    assert script_beside(tmp_path / "gone" / "net.pth") is None


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("low", "high", "side"), [(28, 29, 28), (30, 39, 32), (96, 127, None)])
def test_what_is_proposed_is_a_preset_of_what_the_network_takes(channels, low, high, side):
    size = InputSize(channels=channels, low=low, high=high, side=side, reason="")
    for name in presets_for(size):
        assert size.takes(*preset(name).input_size)
        assert preset(name).num_channels == channels
