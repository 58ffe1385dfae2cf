"""What lies over other screens, and the lists in it."""

from __future__ import annotations

from rich.console import RenderableType
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import OptionList

DEEPEST = 8
"""So many screens shine through one another; what is below them does not."""


class Over(ModalScreen[ScreenResultType]):
    """Through it shines the screen right below it in the stack.

    Textual (8.2) takes that from a list from which each screen that is drawn takes one, and a screen whose picture is
    remembered takes none: three of them, and two may become each other's background, without an end.
    """

    def render(self) -> RenderableType:
        """The background."""
        stack, background = self.app.screen_stack, self.styles.background
        at = stack.index(self) if self in stack else 0
        if at and background.a < 1 and len(stack) - at <= DEEPEST:
            return BackgroundScreen(stack[at - 1], background)
        return super().render()


class Menu(OptionList):
    """A list whose keys may come before it has its place: Textual's turns pages by lines that are not made yet."""

    def action_page_up(self) -> None:
        """As Textual does."""
        if self.scrollable_content_region.area:
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        """As Textual does."""
        if self.scrollable_content_region.area:
            super().action_page_down()  # type: ignore[no-untyped-call]
