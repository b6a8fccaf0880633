"""The class-order detective: finds what is there, and nothing on a network that is merely bad."""

from collections.abc import Sequence

import numpy as np
import pytest

from resnet_cli.display import align_rows, cell_width
from resnet_cli.evaluate.order import Order, deal_halves, find_order
from resnet_cli.evaluate.text import order_lines, order_option


def find(
    given: Sequence[str],
    trained: Sequence[str],
    *,
    images: int = 6,
    accuracy: float = 0.8,
    seed: int = 0,
    pictured: Sequence[str] | None = None,
) -> Order | None:
    """Show a network that learned ``trained`` so many images of each class, named by ``given``."""
    random = np.random.default_rng(seed)
    names = [name for name in (pictured or given) for _ in range(images)]
    said = [
        trained.index(name) if random.random() < accuracy else int(random.integers(len(trained)))
        for name in names
    ]
    truths = [given.index(name) for name in names]
    return find_order(deal_halves(truths, said, len(given)), given)


ANIMALS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"]
NUMBERS = [str(number) for number in range(1, 13)]


def test_two_names_that_are_swapped() -> None:
    found = find(["bees", "ants"], ["ants", "bees"], images=30)
    assert found is not None
    assert found.classes == ("ants", "bees")
    assert [(move.index, move.named, move.means) for move in found.moves] == [
        (0, "bees", "ants"),
        (1, "ants", "bees"),
    ]
    assert found.reason is None
    assert found.top1_given < 0.2 < 0.8 < found.top1


def test_two_of_many_that_are_swapped() -> None:
    given = [*ANIMALS[:3], "elk", "dog", *ANIMALS[5:]]
    found = find(given, ANIMALS, images=20)
    assert found is not None
    assert found.classes == tuple(ANIMALS)
    assert [move.named for move in found.moves] == ["elk", "dog"]


@pytest.mark.parametrize("images", [2, 10])
@pytest.mark.parametrize(
    ("given", "trained", "why"),
    [
        (NUMBERS, sorted(NUMBERS), "sorted as text"),
        (sorted(NUMBERS), NUMBERS, "numbers by their value"),
        (ANIMALS, ANIMALS[::-1], "the list is reversed"),
        (ANIMALS, [*ANIMALS[1:], "ant"], "its first name belongs at the end"),
        (ANIMALS, ["jay", *ANIMALS[:-1]], "its last name belongs at the beginning"),
        (["Bee", "Dog", "ant", "cat", "elk"], ["ant", "Bee", "cat", "Dog", "elk"], "capitals"),
    ],
)
def test_an_order_that_people_mix_up_is_named(
    given: list[str], trained: list[str], why: str, images: int
) -> None:
    found = find(given, trained, images=images + 4 * (len(given) < 6))
    assert found is not None
    assert found.classes == tuple(trained)
    assert found.reason is not None
    assert why in found.reason


def test_one_image_a_class_is_enough_for_an_order_that_people_mix_up() -> None:
    names = [str(number) for number in range(1000)]
    found = find(names, sorted(names), images=1, pictured=names[::6])
    assert found is not None
    assert found.classes == tuple(sorted(names))


def test_any_other_order_is_found_too() -> None:
    shuffled = list(np.random.default_rng(1).permutation(ANIMALS))
    found = find(ANIMALS, shuffled, images=10, accuracy=0.6)
    assert found is not None
    assert found.classes == tuple(shuffled)
    assert found.reason is None


def test_a_class_that_is_missing_from_the_list() -> None:
    trained = ANIMALS
    given = [*ANIMALS[:3], *ANIMALS[4:], "kiwi"]  # dog is missing, so a name too many was added
    pictured = [name for name in ANIMALS if name != "dog"]
    found = find(given, trained, images=10, pictured=pictured)
    assert found is not None
    assert found.classes[4:] == tuple(ANIMALS[4:])
    assert found.reason is not None
    assert "shifted by one from 'elk' to 'jay'" in found.reason
    assert [move.means for move in found.moves if not move.images] == ["kiwi"]
    assert "1 of them without images, so guessed" in order_option(found)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("classes", "images"), [(2, 38), (3, 10), (10, 3), (10, 40), (100, 2)])
@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.9])
def test_a_network_that_is_merely_bad_has_no_wrong_order(
    classes: int, images: int, accuracy: float, seed: int
) -> None:
    names = [f"class {index}" for index in range(classes)]
    assert find(names, names, images=images, accuracy=accuracy, seed=seed) is None


def test_a_network_that_takes_everything_for_one_class_has_no_wrong_order() -> None:
    truths = np.repeat(np.arange(5), 40)
    for label in range(5):
        assert find_order(deal_halves(truths.tolist(), [label] * 200, 5), ANIMALS[:5]) is None


def test_a_likeness_is_no_wrong_order() -> None:
    """Tabby cats that are all taken for tiger cats, of which there are no images."""
    truths = np.repeat([0, 1], 60)
    labels = np.repeat([2, 1], 60)
    assert (
        find_order(
            deal_halves(truths.tolist(), labels.tolist(), 4), ["tabby", "dog", "tiger cat", "elk"]
        )
        is None
    )


def test_a_weak_reversal_is_no_wrong_order() -> None:
    random = np.random.default_rng(0)
    truths = np.repeat([0, 1], 200)
    labels = np.where(random.random(400) < 0.6, 1 - truths, truths)
    assert find_order(deal_halves(truths.tolist(), labels.tolist(), 2), ["ants", "bees"]) is None


def test_what_is_said_of_it() -> None:
    found = find(NUMBERS, sorted(NUMBERS), images=5)
    assert found is not None
    lines = list(order_lines(found))
    assert lines[0].startswith("the class names seem to be in the wrong order: top-1 would be ")
    assert "1, 10, 2" in lines[1]
    assert lines[2] == "  output 1, called 2, means 10"
    assert lines[-1] == f"  fix: --classes {','.join(sorted(NUMBERS))}"


def test_names_that_cannot_be_typed_go_into_a_file() -> None:
    found = find(["b, the second", "a"], ["a", "b, the second"], images=30)
    assert found is not None
    assert order_option(found).startswith(
        "--classes FILE with the names in the order of order.classes"
    )


def test_a_table_is_aligned_whatever_the_letters() -> None:
    lines = list(align_rows([["class", "n"], ["蚂蚁", "10"], ["a\x1bb", "9"]]))
    assert lines == ["class    n", "蚂蚁    10", r"a\x1bb   9"]
    assert len({cell_width(line) for line in lines}) == 1
