"""How text and figures are shown: fonts for letters of every script."""
