"""Every command that the documentation and the deploy files have exists, with those options."""

import pytest

from documented import FILES, PAGES, NotThere, named, understood, written

CALLS = [(path.name, words) for path in (*PAGES, *FILES) for words in written(path)]
MENTIONS = sorted({(path.name, text) for path in PAGES for text in named(path)})


def test_there_are_commands_to_look_at() -> None:
    assert len(CALLS) > 40
    assert len(MENTIONS) > 20
    assert {name for name, _ in CALLS} >= {"README.md", "operating.md", "fedmq-node@.service", "compose.yaml"} - {
        "fedmq-node@.service"
    }


@pytest.mark.parametrize(
    ("page", "words"), CALLS, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_a_command_is_one_that_the_command_line_takes(page: str, words: list[str]) -> None:
    assert understood(words)


def is_known(words: list[str]) -> bool:
    try:
        return bool(understood(words))
    except NotThere as error:
        return error.missing


@pytest.mark.parametrize(("page", "text"), MENTIONS)
def test_a_command_that_a_sentence_mentions_exists_with_its_options(page: str, text: str) -> None:
    """A sentence may leave out arguments, but not invent a command or an option."""
    words = text.replace("...", "").split()[1:]
    assert is_known(words)


@pytest.mark.parametrize("words", [["serv"], ["serve", "f.toml", "--metric"], ["keys"], ["serve", "a", "b"]])
def test_what_there_is_not_is_found(words: list[str]) -> None:
    with pytest.raises(NotThere):
        understood(words)
