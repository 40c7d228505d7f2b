"""The picture of a radix tree shows every run, where it hangs, and whether it may go."""

import itertools

from matplotlib.colors import to_hex

from helpers.caches import RadixTree
from helpers.display import plots
from helpers.figures import draw_tree


def tree_of(*texts, page_size=1, salts=None):
    tree, free = RadixTree(page_size), itertools.count()
    for text, salt in zip(texts, salts or [None] * len(texts), strict=True):
        found = tree.match(list(map(ord, text)), salt)
        new = [next(free) for _ in range(len(text) // page_size - len(found.pages))]
        tree.insert(list(map(ord, text)), [*found.pages, *new], salt)
    return tree


def words(tokens):
    return "".join(map(chr, tokens))


def boxes(fig):
    """Texts of the boxes and their colours."""
    return {text.get_text(): to_hex(text.get_bbox_patch().get_edgecolor()) for text in fig.axes[0].texts}


def test_every_run_is_there_with_its_count():
    fig = draw_tree(tree_of("the cat", "the car", "a dog"), "texts", words)
    assert set(boxes(fig)) == {"start", "the ca\n6 tokens", "t\n1 token", "r\n1 token", "a dog\n5 tokens"}
    assert fig.axes[0].get_title(loc="left") == "texts"


def test_pages_are_counted_where_they_are_no_tokens():
    assert "the ca\n6 tokens, 3 pages" in boxes(draw_tree(tree_of("the cat", page_size=2), "", words))


def test_colours_tell_what_is_pinned():
    tree = tree_of("the cat", "the car")
    tree.pin(tree.match(list(map(ord, "the cat"))).node)
    shown = boxes(draw_tree(tree, "", words))
    pinned, free = plots.COLORS["accent"].lower(), plots.COLORS["kv_cache"].lower()
    assert shown == {
        "start": plots.COLORS["muted"].lower(),
        "the ca\n6 tokens": pinned,
        "t\n1 token": pinned,
        "r\n1 token": free,
    }


def test_salts_have_roots_of_their_own():
    shown = boxes(draw_tree(tree_of("abc", "abc", salts=["x", None]), "", words))
    assert {"start", "start, salt 'x'"} < set(shown)


def test_long_words_end_in_dots_and_numbers_stand_for_none():
    fig = draw_tree(tree_of("x" * 3 + " and so on" * 30), "", words)
    long = max(boxes(fig), key=len)
    assert long.count("\n") == 3
    assert "..." in long
    assert "97 98\n2 tokens" in boxes(draw_tree(tree_of("ab"), ""))


def test_an_empty_tree_is_its_start():
    assert list(boxes(draw_tree(RadixTree(), "empty"))) == ["start"]


def test_nothing_overlaps_or_leaves_the_picture():
    texts = ["".join(map(str, p)) * 7 for p in itertools.permutations((1, 2, 3))]
    fig = draw_tree(tree_of(*texts, "12" * 30), "", words)
    fig.canvas.draw()
    extents = [text.get_bbox_patch().get_window_extent() for text in fig.axes[0].texts]
    assert not [1 for a, b in itertools.combinations(extents, 2) if a.overlaps(b)]
    width, height = fig.canvas.get_width_height()
    assert all(e.x0 >= 0 and e.x1 <= width and e.y0 >= 0 and e.y1 <= height for e in extents)
    legend = fig.axes[0].get_legend().get_window_extent()
    assert not any(legend.overlaps(e) for e in extents)
