"""The console that reports are printed on."""

from rich.console import Console


class Report(Console):
    """Standard output. A reader that has gone is an error like any other, where rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        """Called by rich for a `BrokenPipeError`, which the command answers (`cli.run`)."""
        raise BrokenPipeError
