"""Any checkpoint file -> a network, its class names and preprocessing, and their sources."""

from typing import TYPE_CHECKING

from resnet_cli.checkpoint.exported import ExportedCheckpoint, load_exported
from resnet_cli.checkpoint.locate import LoadOptions, Location
from resnet_cli.graph import is_graph

if TYPE_CHECKING:
    from resnet_cli.checkpoint.loading import Checkpoint


def open_checkpoint(location: Location, options: LoadOptions) -> "Checkpoint | ExportedCheckpoint":
    """Load a checkpoint of any kind; torch is imported only for those that hold tensors.

    Args:
        location: a file, or a folder with one.
        options: what is wanted of it.

    Raises:
        CheckpointError: unreadable, no network that classifies, or not ``options.model``.
        SettingError: ``options.classes`` do not fit.
    """
    if is_graph(location.path):
        return load_exported(location.path, options)
    from resnet_cli.checkpoint.loading import load_checkpoint

    return load_checkpoint(location, options)
