"""The screen put together: the application, its main screen, and what is shown there."""
