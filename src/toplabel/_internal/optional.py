"""Optional libraries: import one, or say which extra brings it."""

from importlib import import_module
from types import ModuleType

from toplabel.errors import MissingDependency


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import and return `module`.

    Args:
        module: Dotted name, as in an import statement.
        extra: The extra of toplabel that installs it.
        purpose: What needs it, as the subject of a sentence ("reading HEIC photos").

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingDependency(
            f"{purpose} needs {module}, which is not installed; pip install 'toplabel[{extra}]'"
        ) from error
