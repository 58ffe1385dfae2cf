"""Help for the tests: sources and worlds to show, a laboratory network, witnesses, and what drives the program."""
