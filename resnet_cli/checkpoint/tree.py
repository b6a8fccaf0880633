"""Contents of a file: tensors in plain containers, and stand-ins for objects of other classes."""

import json
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds, before it is interpreted."""

    format: str
    tree: Any  # tensors in dicts and lists, as saved
    metadata: Mapping[str, str] = field(default_factory=dict)  # of a safetensors file
    imports: tuple[str, ...] = ()  # names that unpickling would import, apart from tensors
    files: tuple[Path, ...] = ()  # where there are several, such as an index and its shards

    def metadata_json(self, key: str) -> Any:
        """Decode one JSON value of the metadata; None where it is missing."""
        text = self.metadata.get(key)
        try:
            return None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            return text


DEEPEST = 64  # levels of modules; torchvision's networks have four
LONGEST = 1000  # characters of a path of keys; regular files nest less
MOST_SLOTS = 100  # attributes of an object that has both __dict__ and __slots__
MOST_INSIDE = 300_000  # items in objects, which may share them; 20,000 in a ResNet-152
PART = 40  # items counted for a module
MOST_LISTED = 16  # elements of a list among the settings of a module: one per channel


@dataclass(frozen=True, slots=True)
class Part:
    """One module or layer of a network, as far as its file describes it."""

    kind: str  # name of its class, such as Conv2d
    settings: Mapping[str, Any] = field(default_factory=dict)  # such as stride


class StateDict(dict[str, "Tensor"]):
    """Tensors by name, of a file that also describes the parts of the network."""

    def __init__(
        self,
        tensors: Mapping[str, "Tensor"],
        parts: Mapping[str, Part],
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        """Add what the file describes besides the tensors.

        Args:
            tensors: by name.
            parts: modules by name.
            extras: other attributes of modules, by the name of the module and their own.
        """
        super().__init__(tensors)
        self.parts, self.extras = parts, extras or {}


class Foreign:
    """Stands in for an object of a class that is never imported: stores its state, runs nothing."""

    path: ClassVar[str] = "?"  # module.Class
    settings: ClassVar[
        Mapping[str, Any]
    ] = {}  # of all objects of the class, from TorchScript's code

    args: tuple[Any, ...]  # arguments of the class
    state: Any  # argument of __setstate__
    elements: list[Any]  # of a list
    entries: dict[Any, Any]  # of a dict

    def __new__(cls, *args: Any, **_: Any) -> "Foreign":
        """Store the arguments."""
        made = super().__new__(cls)
        made.args, made.state, made.elements, made.entries = args, None, [], {}
        return made

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, element: Any) -> None:
        """Store an element."""
        self.elements.append(element)

    def extend(self, elements: Any) -> None:
        """Store elements."""
        self.elements.extend(elements)

    def add(self, element: Any) -> None:
        """Store an element."""
        self.elements.append(element)

    def __call__(self, *args: Any) -> "Foreign":
        """Return a stand-in for what a function made by calls would have returned."""
        return Foreign(*args)

    def tensor(self) -> "Tensor | None":
        """Return the tensor that this stands for, or None."""
        return None

    @property
    def kind(self) -> str:
        """Name of the class, without its module."""
        return self.path.rpartition(".")[2]

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes that the object would have had."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2:  # of __dict__ and of __slots__
            own, slots = map(as_mapping, state)
            merged = own and slots and len(own) + len(slots) <= MOST_SLOTS
            state = {**own, **slots} if merged else own or slots
        return as_mapping(state)

    def contents(self) -> Any:
        """Return what the object holds, as a plain container."""
        attributes = self.attributes
        if is_module(self):
            return state_dict(self)
        for inner in ("_content", "_val"):  # of OmegaConf
            if inner in attributes:
                return attributes[inner]
        if attributes and self.entries:
            return {**attributes, **self.entries}
        if attributes or self.entries:
            return attributes or self.entries
        return self.elements or list(self.args)


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a dict as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def is_module(value: Any) -> bool:
    """Return whether an object was a ``torch.nn.Module``, or one of TorchScript."""
    if not isinstance(value, Foreign):
        return False
    attributes = value.attributes
    return value.path.startswith("__torch__.") or {"_parameters", "_modules"} <= attributes.keys()


def state_dict(module: Foreign) -> StateDict:
    """Return what ``state_dict()`` would have returned, with the modules by name."""
    tensors: dict[str, Tensor] = {}
    parts: dict[str, Part] = {}
    extras: dict[str, Any] = {}
    waiting = [("", module)]
    room = MOST_INSIDE
    while waiting and room > 0:
        name, current = waiting.pop()
        room -= measure_breadth(current)
        start = f"{name}." if name else ""
        own, children = members_of(current)
        parts[name] = Part(current.kind, settings_of_module(current))
        tensors.update((start + key, tensor) for key, tensor in own)
        extras.update((start + key, value) for key, value in attributes_of(current))
        if name.count(".") < DEEPEST and len(name) < LONGEST:
            waiting += [(start + key, child) for key, child in reversed(children)]
    return StateDict(tensors, parts, extras)


def attributes_of(module: Foreign) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a module that are not parts of it, such as class names."""
    for key, value in module.attributes.items():
        if key not in INTERNALS and isinstance(value, CONTAINERS) and not is_module(value):
            yield str(key), value


def members_of(module: Foreign) -> tuple[list[tuple[str, "Tensor"]], list[tuple[str, Foreign]]]:
    """Return the tensors and modules directly inside a module."""
    attributes = module.attributes
    if "_modules" in attributes:
        tables = [as_mapping(attributes.get(f"_{kind}")) for kind in ("parameters", "buffers")]
        transient = transient_buffers(attributes)
        inside = {key: value for table in tables for key, value in table.items()}
        inside = {key: value for key, value in inside.items() if key not in transient}
        inside |= as_mapping(attributes["_modules"])
    else:  # TorchScript stores all of them as attributes
        inside = dict(attributes)
    return (
        list(tensors_in(inside).items()),
        [(str(key), value) for key, value in inside.items() if is_module(value)],
    )


def settings_of_module(module: Foreign) -> dict[str, Any]:
    """Return numbers, words, sizes and short lists among the attributes of a module.

    Tensors that no state dict has are included: those of its own ``__dict__``, and buffers that are
    not saved.
    """
    attributes = module.attributes
    own = {
        key: value
        for key, value in attributes.items()
        if isinstance(value, bool | int | float | str | tuple)
        or (isinstance(value, list) and len(value) <= MOST_LISTED)
    }
    loose: dict[str, Any] = {}
    if "_modules" in attributes:
        transient = as_mapping(attributes.get("_buffers")) if transient_buffers(attributes) else {}
        kept = {
            key: value for key, value in transient.items() if key in transient_buffers(attributes)
        }
        loose = {**tensors_in(attributes), **tensors_in(kept)}
    return {**module.settings, **own, **loose}


def transient_buffers(attributes: Mapping[str, Any]) -> Collection[Any]:
    """Return the names of a module's buffers that are not in its state dict."""
    names = attributes.get("_non_persistent_buffers_set")
    return names if isinstance(names, set | list | tuple) else ()


INTERNALS = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"})
"""Attributes in which a module of torch stores its parts."""


def walk_containers(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield a tree and every dict and list in it with its dotted path, outermost first.

    Each is visited once, so that the walk ends where a file nests a container in itself, or shares
    one a thousand times. Objects are skipped once earlier ones have held more than any file of
    weights does.
    """
    waiting = deque([("", tree)])
    seen = {id(tree)}
    room = MOST_INSIDE
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, Foreign) and room < 0:
            continue
        container = as_container(value)
        if isinstance(value, Foreign):
            room -= measure_extent(value, container)
        yield path, container
        if len(path) > LONGEST or path.count(".") > DEEPEST:
            continue
        for key, inner in items_inside(container):
            if isinstance(inner, CONTAINERS) and id(inner) not in seen:
                seen.add(id(inner))
                waiting.append((f"{path}.{key}" if path else key, inner))


CONTAINERS = (Mapping, list, tuple, Foreign)


def measure_extent(value: Foreign, container: Any) -> int:
    """Count the items that were read to find what is in an object."""
    parts = len(container.parts) if isinstance(container, StateDict) else 0
    sized = isinstance(container, Mapping | list | tuple)
    return measure_breadth(value) + (len(container) if sized else 1) + PART * parts


def measure_breadth(value: Foreign) -> int:
    """Count the items directly inside an object and the dicts among its attributes."""
    inside = value.attributes.values()
    return 1 + len(inside) + sum(len(inner) for inner in inside if isinstance(inner, dict))


def as_container(value: Any) -> Any:
    """Return the container that a stand-in holds; other values unchanged."""
    for _ in range(DEEPEST):  # nodes of OmegaConf hold nodes
        if not isinstance(value, Foreign):
            break
        value = value.contents()
    return value


def items_of(container: Any) -> Iterator[tuple[str, Any]]:
    """Yield keys, as text, and values of a dict or a list; nothing for other values."""
    if isinstance(container, Mapping):
        for key, value in container.items():
            yield key_text(key), value
    elif isinstance(container, list | tuple):
        for index, value in enumerate(container):
            yield str(index), value


def items_inside(container: Any) -> Iterator[tuple[str, Any]]:
    """Yield keys and values of a container, and the attributes of the modules of a network."""
    yield from items_of(container)
    if isinstance(container, StateDict):
        yield from container.extras.items()


def key_text(key: Any) -> str:
    """Return a key as text."""
    if isinstance(key, str):
        return key
    small = isinstance(key, int) and abs(key) < 1 << 63  # a large number takes long to convert
    return str(key) if small else type(key).__name__


def tensors_in(container: Any) -> dict[str, "Tensor"]:
    """Return the tensors, and arrays of numbers, directly inside a dict, by name."""
    if isinstance(container, StateDict):
        return container
    if not isinstance(container, Mapping):
        return {}
    from torch import Tensor  # already imported by what read any

    found = {}
    for key, value in container.items():
        tensor = value.tensor() if isinstance(value, Foreign) else value
        if isinstance(key, str) and isinstance(tensor, Tensor):
            found[key] = tensor
    return found


OPTIMIZER_KEYS = frozenset({"optimizer", "optimizer_states", "optimizer_state_dict", "optim"})
