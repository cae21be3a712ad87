"""The live display, as a terminal gets it."""

import io

from rich.console import Console

from hstnn_deploy.cli.predictions import LiveTable


def shown(samples: int, steps: int, kind: str) -> str:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=160, color_system=None)
    display = LiveTable(terminal, 0, "recording.bin")
    for number in range(1, steps + 1):
        answer = {"class": number % 10, kind: 0.5, "best": [[number % 10, 0.5], [7, 0.25]]}
        display.step(number, steps, [answer] * samples)
    display.close()
    assert isinstance(terminal.file, io.StringIO)
    # The last drawing stays.
    return terminal.file.getvalue().rpartition("recording.bin")[2]


def test_a_sample_has_a_row_with_its_classes_over_time() -> None:
    text = shown(1, 5, "probability")
    for words in ("step 5 of 5", "probability", "0.500", "7 0.25", "1 2 3 4 5"):
        assert words in text
    assert "sample" not in text


def test_many_samples_and_steps_are_cut_to_what_fits() -> None:
    text = shown(20, 50, "score")
    assert "and 8 more samples" in text
    assert "… 1 2 3" in text
    assert "score" in text
