"""Every link of documents and notebooks leads somewhere; nothing is fetched."""

import urllib.error
import urllib.request

import nbformat
import pytest

from tools import links
from tools import notebooks as nbs


@pytest.mark.parametrize("page", links.pages(), ids=lambda page: str(page.relative_to(nbs.ROOT)))
def test_links_lead_somewhere(page):
    assert [
        f"{target} {wrong}" for target in links.targets(page) if (wrong := links.problem(page, target))
    ] == []


def test_chapters_labs_and_documents_are_among_the_pages():
    names = {page.relative_to(nbs.ROOT).parts[0] for page in links.pages()}
    assert names >= {"README.md", "CONTRIBUTING.md", "docs", "notebooks", "labs", "solutions"}
    assert sum(len(links.targets(page)) for page in links.pages()) > 100


@pytest.fixture
def house(tmp_path):
    """A document, a glossary and a notebook."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text(
        "# Top\n\n## Same\n\n## Same\n\n<a id='by-hand'></a>\n\n```\n# no heading\n```\n"
    )
    (tmp_path / "docs" / "glossary.md").write_text("# Glossary\n\n## hit rate\n\nA share.\n")
    cell = nbformat.v4.new_markdown_cell("## On Ascend\n\n[rate](../docs/glossary.md#hit-rate)")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / "01.ipynb")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](docs/nowhere.md)", "leads to no file"),
        ("![a](docs/nowhere.png 'title')", "leads to no file"),
        ("[a](docs/glossary.md#hit-rat)", "is no entry of the glossary"),
        ("[a](#nowhere)", "leads to no heading"),
        ("[a](#no-heading)", "leads to no heading"),
        ("[a](#same-2)", "leads to no heading"),
        ("[a](notebooks/01.ipynb#in-production)", "leads to no heading"),
        ("[a](../../outside.md)", "leaves the repository"),
        ("[a](/docs/glossary.md)", "leaves the repository"),
        ("[a](https://nohost/page)", "has no host"),
        ("[a](file:docs/glossary.md)", "has the scheme file"),
        ("[name]: docs/nowhere.md", "leads to no file"),
        ("<img src='docs/nowhere.png' alt=''>", "leads to no file"),
        ('<a href="docs/nowhere.md">a</a>', "leads to no file"),
    ],
)
def test_a_link_that_leads_nowhere_is_seen(house, text, wrong):
    page = house / "README.md"
    page.write_text(f"{page.read_text()}\n{text}\n")
    (sentence,) = links.problems(house)
    assert sentence.startswith("README.md: ")
    assert sentence.endswith(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "[a](docs/glossary.md#hit-rate) [b](#same) [c](#same-1) [d](#by-hand) [e](docs)",
        "[a](notebooks/01.ipynb#on-ascend) [b](notebooks/01.ipynb#On-Ascend)",
        "[a](https://example.org/a_(b)) <https://example.org> [m](mailto:a@example.org)",
        "`[a](nowhere.md)`\n\n```\n[a](nowhere.md)\n```",
    ],
)
def test_a_link_that_leads_somewhere_is_none(house, text):
    page = house / "README.md"
    page.write_text(f"{page.read_text()}\n{text}\n")
    assert links.problems(house) == []


def test_the_web_is_asked_by_hand_alone(monkeypatch, capsys):
    asked = []

    def refuse(request, timeout):
        asked.append(request.full_url)
        raise urllib.error.URLError("no net here")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert links.main([]) == 0
    assert asked == []
    assert links.main(["--online"]) == 1
    assert asked == links.addresses()
    assert capsys.readouterr().out.count("no net here") == len(asked) > 3
