"""What wrappers and training put around a network's names in a state dict, recognised and removed.

DataParallel puts `module.` before a name and torch.compile `_orig_mod.`, both around a part of a
network as well; a LightningModule puts whatever its attribute is called.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

#: Parts of a name that wrappers put anywhere in it, around a layer as around the network.
WRAPPERS = frozenset(
    {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)

#: Last parts of the names of what the profiler thop leaves in every layer.
PROFILED = frozenset({"total_ops", "total_params"})
#: Last parts of the names of tables that networks compute themselves; old versions stored them.
TABLES = frozenset({"relative_position_index", "position_ids"})
#: Where mmpretrain keeps mean and std, which are the preprocessing's.
NORMALISATION = "data_preprocessor."

_METRICS = "metrics?|acc|accuracy|auroc"
# What training keeps beside a network. Anything else may be a layer that changes the answers.
_TRAINING = re.compile(
    f"n_averaged|criterion|criteria|(.*_)?loss(es)?(_fn|_fun|_func|_function)?|(.*_)?({_METRICS})"
    "|(.*_)?(confmat|f1|confusion_matrix)|(class|pos|loss)_weights?"
)
_TRAINING_VECTOR = re.compile(
    rf"n_averaged|(\w+_)?(criterion|loss|loss_fn|loss_func|{_METRICS})(_\w+)?"
)

_ADAPTER = re.compile(
    r"(?:.*[._])?(?:lora_(?:[AB]|down|up|embedding_[AB])|ia3_l|hada_w[12]_[ab]|lokr_w[12](?:_[ab])?"
    r"|adapters?|oft_[rs]|vera_lambda_[bd])(?:[._].*)?"
)


def cuts(name: str) -> Iterator[tuple[str, str]]:
    """The name cut in two at its start and after each of its dots: `("", "a.b")`, `("a.", "b")`."""
    yield "", name
    at = name.find(".")
    while at >= 0:
        yield name[: at + 1], name[at + 1 :]
        at = name.find(".", at + 1)


def strip_wrappers(name: str, wrappers: frozenset[str] = WRAPPERS) -> str:
    """The name without the parts that wrappers put into it."""
    parts = name.split(".")
    if wrappers.isdisjoint(parts):
        return name
    return ".".join(part for part in parts if part not in wrappers)


def without_wrappers(names: Collection[str], wrappers: frozenset[str] = WRAPPERS) -> dict[str, str]:
    """The stripped names -> the names; as they are where two of them would become one."""
    stripped = {strip_wrappers(name, wrappers): name for name in names}
    return stripped if len(stripped) == len(names) else {name: name for name in names}


def is_training_state(name: str) -> bool:
    """Whether a tensor is by its name a criterion's, a loss's or a metric's, or counts averages."""
    return _TRAINING.fullmatch(name.partition(".")[0]) is not None


def is_training_vector(name: str, shape: Collection[int]) -> bool:
    """The same for a scalar or vector, where no class says which names are layers."""
    return len(shape) <= 1 and (
        _TRAINING_VECTOR.fullmatch(name.partition(".")[0].lower()) is not None
    )


def is_adapter(name: str) -> bool:
    """Whether a tensor is by its name part of an adapter (LoRA and its like), not of a network."""
    return _ADAPTER.fullmatch(name) is not None
