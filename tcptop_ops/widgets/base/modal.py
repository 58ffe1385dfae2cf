"""Base classes of dialogs and their lists, with workarounds for faults of Textual."""

from __future__ import annotations

from rich.console import RenderableType
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import OptionList

DEEPEST = 8
"""Maximum number of screens that are drawn through one another."""


class Dialog(ModalScreen[ScreenResultType]):
    """A modal screen that is drawn over the screen right below it in the stack.

    Textual (8.2) takes the background from a list that each screen drawn pops from, but a cached screen does not: with
    three screens, two of them can become each other's background, which recurses without end.
    """

    def render(self) -> RenderableType:
        """Draw the screen below in the stack as background, instead of the one that Textual would choose."""
        stack, background = self.app.screen_stack, self.styles.background
        at = stack.index(self) if self in stack else 0
        if at and background.a < 1 and len(stack) - at <= DEEPEST:
            return BackgroundScreen(stack[at - 1], background)
        return super().render()


class MenuDialog(Dialog[ScreenResultType]):
    """A dialog around one list, whose selection its own keys move too."""

    def action_move(self, way: str) -> None:
        """Move the selection "up" or "down"."""
        listed = self.query_one(OptionList)
        if way == "down":
            listed.action_cursor_down()
        else:
            listed.action_cursor_up()


class Menu(OptionList):
    """A list that tolerates page keys before its first layout, when Textual's own would fail on missing lines."""

    def action_page_up(self) -> None:
        """Move up by a page, once the list has a size."""
        if self.scrollable_content_region.area:
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        """Move down by a page, once the list has a size."""
        if self.scrollable_content_region.area:
            super().action_page_down()  # type: ignore[no-untyped-call]
