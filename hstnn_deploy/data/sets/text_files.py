"""Texts in three files of UTF-8: Penn Treebank and WikiText-2."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from hstnn_deploy.data.dataset import Card, Choice, DataSet, Inspected, Picture, Source
from hstnn_deploy.data.files.folder import VARIABLE, find
from hstnn_deploy.data.pictures.text import draw_text
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.data.text import EOS, SPLITS, TextConfig, make_splits
from hstnn_deploy.errors import DataError


class PtbConfig(TextConfig):
    """Penn Treebank, from ptb.train.txt, ptb.valid.txt and ptb.test.txt."""

    name: Literal["ptb"] = "ptb"


class WikiText2Config(TextConfig):
    """WikiText-2, from train.txt, valid.txt and test.txt."""

    name: Literal["wikitext2"] = "wikitext2"


FILES = {
    "ptb": {name: f"ptb.{name}.txt" for name in SPLITS},
    "wikitext2": {name: f"{name}.txt" for name in SPLITS},
}


def load_text(config: PtbConfig | WikiText2Config, source: Source) -> Splits:
    """Return a text from its three files in the data folder, or in its folder of the data set's name.

    Raises:
        DataError: a file is missing, holds no words, or is not UTF-8.
    """
    folder, _ = _look(config.name, source.folder)
    return make_splits(read_words(config, source.folder), config.bptt, f"{config.name} from {folder}", source.protocol)


def read_words(config: PtbConfig | WikiText2Config, given: Path | None) -> dict[str, list[str]]:
    """Return the words of each split, `<eos>` at the end of each line.

    Raises:
        DataError: a file is missing, holds no words, or is not UTF-8.
    """
    folder, missing = _look(config.name, given)
    if missing:
        names = ", ".join(FILES[config.name].values())
        raise DataError(
            f"{config.name} is not at {folder} ({missing[0]} is missing)",
            f"put the files {names} there, or name their folder with --data-dir or {VARIABLE}",
        )
    return {split: _words(folder / name) for split, name in FILES[config.name].items()}


def inspect(config: PtbConfig | WikiText2Config, given: Path | None) -> Iterator[Inspected]:
    """Read each file whole; see `DataSet`."""
    folder, _ = _look(config.name, given)
    for split, name in FILES[config.name].items():
        try:
            words = _words(folder / name)
        except DataError as error:
            yield Inspected(str(folder / name), split, problem=error.message)
        else:
            yield Inspected(str(folder / name), split, len(words), how="files of UTF-8 text")


def missing_files(name: str, given: Path | None) -> list[str]:
    """Return the names of the files that are not in the data folder."""
    return _look(name, given)[1]


def _look(name: str, given: Path | None) -> tuple[Path, list[str]]:
    """Return the folder that holds the files, and which of them it lacks."""
    names = FILES[name].values()
    folder = find(given, (name,), lambda place: any((place / each).is_file() for each in names))
    return folder, [each for each in names if not (folder / each).is_file()]


def _words(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}",
            "save it as UTF-8, or download it again",
        ) from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    words = [word for line in lines for word in (*line.split(), EOS)]
    if all(word == EOS for word in words):
        raise DataError(f"{path} contains no words", "copy or download it again")
    return words


def _picture(config: PtbConfig | WikiText2Config, source: Source, choice: Choice) -> Picture:
    return draw_text(read_words(config, source.folder), choice, config.name)


PTB = DataSet(
    "ptb",
    PtbConfig,
    Card(
        "Penn Treebank in Mikolov's split: 929 589 words to train on, a vocabulary of 10 000",
        "language model",
        "derived from LDC99T42, not to be redistributed",
        "https://catalog.ldc.upenn.edu/LDC99T42",
        f"put {', '.join(FILES['ptb'].values())} into ptb/",
        5_957_812,
    ),
    load_text,
    lambda _: None,
    lambda config, folder: missing_files(config.name, folder),
    place=lambda config, folder: _look(config.name, folder)[0],
    inspect=inspect,
    picture=_picture,
)

WIKITEXT2 = DataSet(
    "wikitext2",
    WikiText2Config,
    Card(
        "WikiText-2: two million words of good Wikipedia articles, a vocabulary of 33 278",
        "language model",
        "CC BY-SA 3.0",
        "https://arxiv.org/abs/1609.07843",
        f"put {', '.join(FILES['wikitext2'].values())} into wikitext2/",
        13_136_490,
    ),
    load_text,
    lambda _: None,
    lambda config, folder: missing_files(config.name, folder),
    place=lambda config, folder: _look(config.name, folder)[0],
    inspect=inspect,
    picture=_picture,
)
