"""Tensors that a file keeps in another form than plain numbers: what a person can do about them."""

import re
from collections.abc import Collection
from typing import Any

from resnet_cli.checkpoint.tree import Foreign, items_of, walk_containers
from resnet_cli.errors import CheckpointError

FULL = (
    "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))"
    " of torch.distributed.checkpoint.state_dict"
)

FORMS = (
    ("sharded over several processes, and holds the part of one ({kind}): save the full state "
     f"dict, {FULL}", r"DTensor|ShardedTensor|FlatParameter"),
    ("quantised ({path}): save the float weights that it was made from",
     r"torchao\.|quanto\.|bitsandbytes\.|_rebuild_qtensor"),
    ("made of sparse tensors: save them dense, as to_dense() gives them", r"sparse"),
    ("made of nested tensors: save plain ones", r"nested"),
    ("without values, which were on the meta device: load them before saving", r"meta_tensor"),
    ("made of objects of {path}, not of tensors: save plain float tensors", r""),
)  # fmt: skip
"""What a file is, and how the class of its tensors is called, or what remakes them."""

ENDS = ("weight", "flat_param", "_flat_param")  # of the names of the first tensors of layers


def name_unreadable(tree: Any) -> str | None:
    """Name the form of the weights in a file that cannot be read as tensors; None for no such."""
    for _, container in walk_containers(tree):
        for name, value in items_of(container):
            if name.rpartition(".")[2] in ENDS and isinstance(value, Foreign) and is_unread(value):
                return clause_of(value)
    return None


def is_unread(value: Foreign) -> bool:
    """Whether something stands for no tensor; one that is damaged is one."""
    try:
        return value.tensor() is None
    except CheckpointError:
        return False


def name_sharded(imports: Collection[str]) -> str | None:
    """Name a file that cannot be read at all as it is sharded, by what it would import."""
    clause, sign = FORMS[0]
    path = next((path for path in imports if re.search(sign, path)), None)
    return path and f"it is {clause.format(kind=path.rpartition('.')[2])}"


def clause_of(value: Foreign) -> str:
    """Return a clause to follow "it is"."""
    clauses = (clause for clause, sign in FORMS if re.search(sign, value.path))
    return next(clauses).format(kind=value.kind, path=value.path)
