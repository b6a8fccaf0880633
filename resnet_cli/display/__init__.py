"""How text is shown: tables on a terminal, fonts for the letters of every script."""
