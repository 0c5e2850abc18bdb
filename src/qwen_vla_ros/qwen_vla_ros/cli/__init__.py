"""Commands: one file each, wired together in `main`."""
