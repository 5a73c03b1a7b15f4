"""Progress of a labelling run: what its files hold so far, and what was found of the corpus."""

from __future__ import annotations

from typing import TextIO

from stages.engine.progress import Progress
from stages.label.account import Account
from stages.label.flow import News, join_news


class LabelProgress(Progress):
    """Adds up finished files and what was found.

    Attributes:
        done: what is finished.
        found: photos of the corpus, archives and other files, as far as they are known.
        seconds_start: from the start until the first unit's work began: processes, imports, the model.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Count from now."""
        super().__init__("images", stream)
        self.done, self.found = Account(), News()
        self.seconds_start = 0.0

    def hear(self, what: Account | News) -> None:
        """Add a finished file, or what was found; print a line now and then."""
        if isinstance(what, News):
            self.found = join_news([self.found, what])
            self.expect(what.undone, all_known=self.found.archives == self.found.archives_in_all)
            return
        first = self.items == 0
        self.done += what
        self.add(what.rows, what.failed, f"{self.done.masks} masks")
        if first:
            self.seconds_start = max(0.0, self.seconds_first - what.seconds)
